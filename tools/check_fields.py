#!/usr/bin/env python3
"""Every field of Istio's API is honoured, accepted with a stated difference, or refused by name."""
import checklib
import istio_fields

checklib.finish(istio_fields.problems(), "fields")
