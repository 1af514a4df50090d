#!/usr/bin/env bash
# Trains and tests bLVNet-TAM on the embedded data set, from a bare machine to
# the accuracy. Steps that are done already are not repeated.
cd "$(dirname "$0")/.."
source tools/environment.sh

config=configs/blvnet_tam_r50_4x2_motion.py
work_dir=work_dirs/blvnet_tam_r50_4x2_motion
checkpoint=$work_dir/epoch_12.pth

python tools/data/make_motion_dataset.py data/motion

# MMEngine writes a checkpoint's name into this file once it is complete.
if ! grep -qs "$(basename "$checkpoint")" "$work_dir/last_checkpoint"; then
    mim train mmaction "$config" --work-dir "$work_dir" --resume
fi

if [ ! "$work_dir/test.log" -nt "$checkpoint" ]; then
    mim test mmaction "$config" --checkpoint "$checkpoint" \
        --work-dir "$work_dir" --dump "$work_dir/scores.pkl" \
        2>&1 | tee "$work_dir/test.part"
    mv "$work_dir/test.part" "$work_dir/test.log"
fi

read -r video label <data/motion/motion_val_list_videos.txt
truth=$(sed -n "$((label + 1))p" data/motion/label_map.txt)
echo "Prediction for $video, which shows \"$truth\":"
python tools/predict.py "data/motion/videos/$video" "$config" "$checkpoint" \
    --label-map data/motion/label_map.txt

accuracy=$(sed -n 's/.*acc\/top1: *\([0-9.]*\).*/\1/p' "$work_dir/test.log" |
    tail -n 1)
echo "Top-1 accuracy on the held-out videos, 2 clips x 3 crops: $accuracy"
