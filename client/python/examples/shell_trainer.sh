#!/bin/sh
# A trainer without a word of fedmerge's in it: files in, files out, and a line of JSON. Any program can do that.
#
#     fedmerge client train --init base.safetensors
#     fedmerge server init hub --name digits --base base.safetensors
#     fedmerge server run --dir hub &
#     export FEDMERGE_TOKEN=$(fedmerge server token create --dir hub --uses 2)
#     fedmerge client enrol --server https://localhost:7600 --dir ward-1 --name ward-1
#     fedmerge client enrol --server https://localhost:7600 --dir ward-2 --name ward-2
#     fedmerge client run --dir ward-1 --train 'sh shell_trainer.sh 1/2' &
#     fedmerge client run --dir ward-2 --train 'sh shell_trainer.sh 2/2'
#
# The part of the data is the argument. What trains here is the program's own trainer, standing for yours: it reads FEDMERGE_BASE, writes
# FEDMERGE_OUT, and prints a line such as {"num_examples": 719, "metrics": {"loss": 0.31}}.
set -eu

part=${1:?which part of the digits, such as 1/2}
echo "round $FEDMERGE_ROUND: training on digits:$part from $FEDMERGE_BASE" >&2

# A round may be declined: any exit code but 0 does that, and the last lines on stderr are the reason that is given.
if [ -e "maintenance" ]; then
    echo "this site is being maintained" >&2
    exit 1
fi

exec "${FEDMERGE_BIN:-fedmerge}" client train --data "digits:$part"
