"""./foil's commands but setup and lab exec, which the script itself knows."""
import sys

from foilrun import ui


def main(argv):
    command, rest = argv[0], argv[1:]
    if command == "build":
        from foilrun import build
        return build.main(rest)
    if command == "lab":
        from foilrun import lab
        return lab.main(rest)
    if command == "test":
        from foilrun import testrun
        return testrun.main(rest)
    if command == "demo":
        from foilrun import demo
        return demo.main(rest)
    if command == "train":
        from foilrun import train
        return train.main(rest)
    if command == "bench":
        from foilrun import bench
        return bench.main(rest)
    from foilrun import testrun
    return testrun.fuzz_main(rest) if command == "fuzz" else testrun.sim_main(rest)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ui.Failed as e:
        print(f"foil: {e}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nfoil: interrupted", file=sys.stderr)
        sys.exit(130)
