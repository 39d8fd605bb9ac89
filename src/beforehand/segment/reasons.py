"""The closed list of reasons why a node stays in TensorFlow."""

OP_UNSUPPORTED = "op unsupported"
DTYPE = "dtype"
UNKNOWN_RANK = "unknown rank"
RESOURCE_OR_STRING = "resource or string"
STATEFUL = "stateful"
CONTROL_FLOW = "control flow"
TOO_SMALL = "segment too small"
TOO_LITTLE = "too little arithmetic"
NO_INPUT = "segment without input"
TOO_MANY = "too many segments"
EXCLUDED = "excluded by user"
REFUSED = "refused by backend"

ALL = (
    OP_UNSUPPORTED,
    DTYPE,
    UNKNOWN_RANK,
    RESOURCE_OR_STRING,
    STATEFUL,
    CONTROL_FLOW,
    TOO_SMALL,
    TOO_LITTLE,
    NO_INPUT,
    TOO_MANY,
    EXCLUDED,
    REFUSED,
)
