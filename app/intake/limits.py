"""What a file may ask of the child process, and of the data set that is made of it."""

MIB, GIB = 2**20, 2**30
COPIED_BYTES = MIB  # what is inflated or copied at once

CPU_SECONDS = 120
ADDRESS_SPACE_BYTES = FILE_BYTES = 4 * GIB
ANSWER_BYTES = 64 * 1024

DECODED_BYTES = 2 * GIB  # of all arrays together
ROWS = 5_000_000
COLUMNS = 2_000  # of the table, after one-hot
CLASSES = 1_000
CATEGORIES = 100  # of one column
LINE_BYTES = MIB
CELL_CHARACTERS = 1_000

MEMBERS = 250_000
DIRECTORY_BYTES = 64 * MIB
NAME_BYTES = 255
DEPTH = 4
CLASS_NAME_CHARACTERS = 64
CLASS_NAMES_BYTES = 24_000  # together, as JSON

IMAGE_SIDE = 512
IMAGE_PIXELS = 25_000_000  # as sent
IMAGE_FILE_BYTES = 64 * MIB
ALL_PIXELS = 5_000_000_000

SHOWN_ERRORS = 10
SHOWN_CHARACTERS = 40
SHOWN_WARNINGS = 20
FEW_SAMPLES, IMBALANCE = 10, 100  # what is warned of
