/* The program's own log: lines for people and for change, each with time, level and a lasting event name. Main thread only; never a line a request. */
#pragma once

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_NOTICE };

/* path: "-" is stderr. 0 or -errno. Until it is called lines go to stderr. */
int log_open(const char *path);
/* After rotation (SIGHUP): the same path again. */
void log_reopen(void);
void log_close(void);
void log_line(enum log_level level, const char *event, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
