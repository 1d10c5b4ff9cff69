#!/usr/bin/env bats
# bats file_tags=mpi
# Each case of PyTorch's test/distributed/checkpoint/test_checkpoint.py, as it is called there: what a failure of any
# rank in any phase looks like on all of them. Faults are made by CKPTFS_FAULT=PHASE@RANK.
load helpers/common
load helpers/ranks

# One checkpoint for all loads, which nobody changes.
setup_file() {
  command -v mpi >/dev/null && [ -x "$CKPT_BIN/ckptfs-mpi" ] || return 0
  new_store
  tiny_model "$tmp/model.safetensors"
  mpi 4 save "$store/seed" --from "$tmp/model.safetensors" --shard 1 3>&-
}

setup() {
  requires mpi
  new_store
}

# save_fails FAULT COORDINATOR ROW: 4 ranks save; each is told who failed, and nothing is committed
save_fails() {
  CKPTFS_FAULT=$1 on_ranks 4 save "$store/step-1" --from "$BATS_FILE_TMPDIR/model.safetensors" --shard 1 --coordinator "$2" || return 1
  all_told "$3" || return 1
  nothing_committed
}

# load_fails FAULT COORDINATOR ROW: the same for a load, which leaves no output
load_fails() {
  CKPTFS_FAULT=$1 on_ranks 4 load "$BATS_FILE_TMPDIR/store/seed" --to "$tmp/out" --coordinator "$2" || return 1
  all_told "$3" || return 1
  assert_eq "$(find "$tmp" -name 'out*')" ''
}

# alone_fails save|load PHASE: one process without MPI; it is told that rank 0 failed, synchronous and asynchronous
alone_fails() {
  local path=$store/step-1
  [ "$1" = save ] || path=$BATS_FILE_TMPDIR/store/alone
  [ "$1" = save ] || [ -e "$path" ] || ckpt-mpi-test seed-alone save "$path"
  ok ckpt-mpi-test seed-alone "$1" "$path" "$2" || return 1
  nothing_committed
}

# --- TestDistributedCheckpointing ------------------------------------------------------------

# bats test_tags=fast
@test "metadata of a tensor that rank 1 alone holds (test_tensor_metadata_with_missing_rank_spec)" {
  ok mpi-test 2 metadata missing-rank-spec "$store/step-1"
}

# bats test_tags=fast
@test "metadata of sharded, replicated and bytes entries (test_default_metadata)" {
  ok mpi-test 2 metadata default "$store/step-1"
}

# --- TestDistributedFailure ------------------------------------------------------------------

# bats test_tags=slow
@test "a save without a fault succeeds on every rank (test_dummy_writer_works)" {
  on_ranks 4 save "$store/step-1" --from "$BATS_FILE_TMPDIR/model.safetensors" --shard 1
  all_did_it
  assert_eq "$(state_of step-1)" committed
}

# bats test_tags=slow
@test "a load without a fault succeeds on every rank (test_dummy_reader_works)" {
  on_ranks 4 load "$BATS_FILE_TMPDIR/store/seed" --to "$tmp/out"
  all_did_it
  slice "$BATS_FILE_TMPDIR/model.safetensors" compare "$tmp/out"
}

# bats test_tags=slow
@test "save: set_up_storage_writer fails on rank 0 (test_save_error_handling)" {
  save_fails set_up_storage_writer@0 0 '0 set_up_storage_writer EIO'
}

# bats test_tags=slow
@test "save: finish fails on rank 0 (test_save_error_handling)" {
  save_fails finish@0 0 '0 finish EIO'
}

# bats test_tags=slow
@test "save: prepare_global_plan fails on rank 0 (test_save_error_handling)" {
  save_fails prepare_global_plan@0 0 '0 prepare_global_plan EIO'
}

# bats test_tags=slow
@test "save: prepare_local_plan fails on rank 0 (test_save_error_handling)" {
  save_fails prepare_local_plan@0 0 '0 prepare_local_plan EIO'
}

# bats test_tags=fast
@test "save: write_data fails on rank 2 (test_save_error_handling)" {
  save_fails write_data@2 0 '2 write_data EIO'
}

# bats test_tags=slow
@test "save: write_data_async fails on rank 3 (test_save_error_handling)" {
  save_fails write_data_async@3 0 '3 write_data_async EIO'
}

# bats test_tags=slow
@test "save: set_up_storage_writer fails on rank 1, the coordinator (test_save_error_handling)" {
  save_fails set_up_storage_writer@1 1 '1 set_up_storage_writer EIO'
}

# bats test_tags=slow
@test "save: finish fails on rank 1, the coordinator (test_save_error_handling)" {
  save_fails finish@1 1 '1 finish EIO'
}

# bats test_tags=slow
@test "save: finish and prepare_global_plan run on the coordinator only, whatever rank that is" {
  CKPTFS_FAULT='finish@0,2,3;prepare_global_plan@0,2,3' on_ranks 4 save "$store/step-1" --from "$BATS_FILE_TMPDIR/model.safetensors" --coordinator 1
  all_did_it
  assert_eq "$(state_of step-1)" committed
}

# bats test_tags=slow
@test "save: all cases with tensors and bytes, synchronous and asynchronous, then a success under the same name (test_save_error_handling, test_load_error_handling)" {
  ok mpi-test 4 seed "$store/step-1"
  ok ckptfs verify "$store"
  says 'step-1: ok' 'step-1-async: ok'
}

# bats test_tags=slow
@test "save by one process: no fault (test_save_error_handling_no_dist)" {
  ok ckpt-mpi-test seed-alone save "$store/step-1"
  assert_eq "$(state_of step-1)" committed
}

# bats test_tags=slow
@test "save by one process: set_up_storage_writer fails (test_save_error_handling_no_dist)" {
  alone_fails save set_up_storage_writer
}

# bats test_tags=slow
@test "save by one process: finish fails (test_save_error_handling_no_dist)" {
  alone_fails save finish
}

# bats test_tags=slow
@test "save by one process: prepare_global_plan fails (test_save_error_handling_no_dist)" {
  alone_fails save prepare_global_plan
}

# bats test_tags=slow
@test "save by one process: prepare_local_plan fails (test_save_error_handling_no_dist)" {
  alone_fails save prepare_local_plan
}

# bats test_tags=slow
@test "save by one process: write_data fails (test_save_error_handling_no_dist)" {
  alone_fails save write_data
}

# bats test_tags=slow
@test "save by one process: write_data_async fails (test_save_error_handling_no_dist)" {
  alone_fails save write_data_async
}

# bats test_tags=slow
@test "load: set_up_storage_reader fails on rank 0 (test_load_error_handling)" {
  load_fails set_up_storage_reader@0 0 '0 set_up_storage_reader EIO'
}

# bats test_tags=slow
@test "load: prepare_global_plan fails on rank 0 (test_load_error_handling)" {
  load_fails prepare_global_plan@0 0 '0 prepare_global_plan EIO'
}

# bats test_tags=slow
@test "load: read_metadata fails on rank 0 (test_load_error_handling)" {
  load_fails read_metadata@0 0 '0 read_metadata EIO'
}

# bats test_tags=slow
@test "load: prepare_local_plan fails on rank 1 (test_load_error_handling)" {
  load_fails prepare_local_plan@1 0 '1 prepare_local_plan EIO'
}

# bats test_tags=fast
@test "load: read_data fails on rank 3 (test_load_error_handling)" {
  load_fails read_data@3 0 '3 read_data EIO'
}

# bats test_tags=slow
@test "load: read_data_async fails on rank 1 (test_load_error_handling)" {
  load_fails read_data_async@1 0 '1 read_data_async EIO'
}

# bats test_tags=slow
@test "load: set_up_storage_reader fails on rank 0, the coordinator is 3 (test_load_error_handling)" {
  load_fails set_up_storage_reader@0 3 '0 set_up_storage_reader EIO'
}

# bats test_tags=slow
@test "load: read_metadata fails on rank 3, the coordinator is 1 (test_load_error_handling)" {
  load_fails read_metadata@3 1 '3 read_metadata EIO'
}

# bats test_tags=slow
@test "load: read_data fails on rank 0, the coordinator is 2 (test_load_error_handling)" {
  load_fails read_data@0 2 '0 read_data EIO'
}

# bats test_tags=slow
@test "load: read_data_async fails on rank 2, the coordinator is 3 (test_load_error_handling)" {
  load_fails read_data_async@2 3 '2 read_data_async EIO'
}

# bats test_tags=slow
@test "load: prepare_global_plan fails on rank 1, the coordinator (test_load_error_handling)" {
  load_fails prepare_global_plan@1 1 '1 prepare_global_plan EIO'
}

# bats test_tags=slow
@test "load by one process: no fault (test_load_error_handling_no_dist)" {
  ok ckpt-mpi-test seed-alone save "$store/step-1"
  ok ckpt-mpi-test seed-alone load "$store/step-1"
}

# bats test_tags=slow
@test "load by one process: set_up_storage_reader fails (test_load_error_handling_no_dist)" {
  alone_fails load set_up_storage_reader
}

# bats test_tags=slow
@test "load by one process: read_metadata fails (test_load_error_handling_no_dist)" {
  alone_fails load read_metadata
}

# bats test_tags=slow
@test "load by one process: prepare_local_plan fails (test_load_error_handling_no_dist)" {
  alone_fails load prepare_local_plan
}

# bats test_tags=slow
@test "load by one process: prepare_global_plan fails (test_load_error_handling_no_dist)" {
  alone_fails load prepare_global_plan
}

# bats test_tags=slow
@test "load by one process: read_data fails (test_load_error_handling_no_dist)" {
  alone_fails load read_data
}

# bats test_tags=slow
@test "load by one process: read_data_async fails (test_load_error_handling_no_dist)" {
  alone_fails load read_data_async
}

# --- beyond the reference ----------------------------------------------------------------------

# bats test_tags=slow
@test "two ranks that fail at once are both in the table, and the name can be saved right after" {
  CKPTFS_FAULT=write_data@1,3 on_ranks 4 save "$store/step-1" --from "$BATS_FILE_TMPDIR/model.safetensors" --shard 1
  all_told '1 write_data EIO' '3 write_data EIO'
  nothing_committed
  assert_eq "$(state_of step-1.partial)" aborted
  on_ranks 4 save "$store/step-1" --from "$BATS_FILE_TMPDIR/model.safetensors" --shard 1
  all_did_it
  ok ckptfs ls "$store"
  assert_eq "$(grep -c step-1 <<<"$stdout")" 1 "checkpoints of that name"
}
