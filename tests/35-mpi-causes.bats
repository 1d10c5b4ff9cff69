#!/usr/bin/env bats
# bats file_tags=mpi
# Real causes, phase by phase: they give the row that a fault on demand in that phase on that rank gives, with their
# own errno, on every rank.
load helpers/common
load helpers/ranks

setup() {
  requires mpi
  new_store
  make_model "$tmp/model.safetensors" model 4
}

teardown() {
  drop_disks
}

# The model's large shards are files of their own: this one is 4 MiB, and rank 1 of 2 has its rows from 512 on.
shard_of_1='rank-00001/layers.0.attn.weight@512_0'

# Writes until not a block is left; past the cache, which would keep some for itself.
fill_up="{ dd if=/dev/zero bs=64k oflag=direct; dd if=/dev/zero bs=4k oflag=direct; } 2>/dev/null"

# only_rank RANK COMMANDS: COMMANDS are done before that rank starts, in a shell with mounts of its own
only_rank() {
  cat >"$tmp/prefix" <<END
#!/bin/sh
[ "\${OMPI_COMM_WORLD_RANK:-\$PMI_RANK}" = $1 ] || exec "\$@"
exec unshare -m sh -c '$2; exec "\$@"' sh "\$@"
END
  chmod 755 "$tmp/prefix"
  rank_prefix=("$tmp/prefix")
}

# the_fault_says N ROW COMMAND…: a fault on demand in that phase on that rank gives the same row but for its errno
the_fault_says() {
  local row rank phase
  read -r rank phase _ <<<"$2"
  rank_prefix=() run_as=()
  CKPTFS_FAULT=$phase@$rank on_ranks "$1" "${@:3}" || return 1
  all_told "$rank $phase EIO"
}

# the_cause_says N ROW COMMAND…: every rank is told this one row; so it is by a fault on demand
the_cause_says() {
  on_ranks "$1" "${@:3}" || return 1
  all_told "$2"
}

# --- saving ------------------------------------------------------------------------------------------

# bats test_tags=slow
@test "set_up_storage_writer: a store on a read-only mount is EROFS on the coordinator, whichever that is" {
  requires root
  mkdir "$tmp/ro"
  mount --bind "$store" "$tmp/ro"
  echo "$tmp/ro" >>"$tmp/.disks"
  mount -o remount,bind,ro "$tmp/ro"
  the_cause_says 3 '2 set_up_storage_writer EROFS' save "$tmp/ro/step-1" --from "$tmp/model.safetensors" --coordinator 2
  nothing_committed
  the_fault_says 3 '2 set_up_storage_writer EROFS' save "$store/step-1" --from "$tmp/model.safetensors" --coordinator 2
}

# bats test_tags=slow
@test "set_up_storage_writer: a store of another user is EACCES" {
  requires root
  chmod 755 "$tmp"
  mkdir -m 777 "$tmp/told"
  run_as=("${as_nobody[@]}" TMPDIR=/tmp)
  told=$tmp/told
  the_cause_says 2 '0 set_up_storage_writer EACCES' save "$store/step-1" --from "$tmp/model.safetensors"
  nothing_committed
}

# bats test_tags=slow
@test "set_up_storage_writer: a rank that sees another file system there is ENXIO, on that rank" {
  requires root
  only_rank 2 "mount -t tmpfs none $store && mkdir $store/.ckptfs && cp $tmp/store.json $store/.ckptfs/"
  cp "$store/.ckptfs/store.json" "$tmp/"
  the_cause_says 3 '2 set_up_storage_writer ENXIO' save "$store/step-1" --from "$tmp/model.safetensors"
  says 'must be on storage that all ranks share'
  nothing_committed
  the_fault_says 3 '2 set_up_storage_writer ENXIO' save "$store/step-1" --from "$tmp/model.safetensors"
}

# bats test_tags=slow
@test "prepare_local_plan: a chunk that reaches out of its tensor is EINVAL on the rank that gave it" {
  ok mpi-test 3 causes bad-chunk "$store/step-1" 1 prepare_local_plan EINVAL
  nothing_committed
}

# bats test_tags=slow
@test "prepare_global_plan: chunks of two ranks that overlap are EINVAL on the coordinator" {
  ok mpi-test 3 causes overlap "$store/step-1" 0 prepare_global_plan EINVAL
  nothing_committed
}

# bats test_tags=slow,sanitized
@test "write_data: a rank whose file system is read-only is EROFS on that rank alone" {
  requires root
  only_rank 1 "mount --bind $store $store && mount -o remount,bind,ro $store"
  the_cause_says 3 '1 write_data EROFS' save "$store/step-1" --from "$tmp/model.safetensors"
  nothing_committed
  the_fault_says 3 '1 write_data EROFS' save "$store/step-1" --from "$tmp/model.safetensors"
}

# bats test_tags=slow
@test "write_data: a disk that is too small is ENOSPC on the ranks whose bytes do not fit any more" {
  requires loop
  small_disk 24 "$tmp/disk"
  new_store "$tmp/disk/store"
  # The model has 5 MiB, and half of them fit.
  fill_disk "$tmp/disk" 3000
  the_cause_says 2 '1 write_data ENOSPC' save "$store/step-1" --from "$tmp/model.safetensors"
  says 'no space for the 2.5 MiB that this rank writes'
  nothing_committed
  rm "$tmp/disk/filler"
  CKPTFS_FAULT=write_data@1:enospc on_ranks 2 save "$store/step-1" --from "$tmp/model.safetensors"
  all_told '1 write_data ENOSPC'
  ok mpi 2 save "$store/step-1" --from "$tmp/model.safetensors"
}

# while_stopped PROGRAM COMMANDS -- CMD…: CMD makes a rank stop, by a fault on demand; then COMMANDS are done, in which
# $pid is that rank, and it goes on. How CMD ended is in $status and so on.
while_stopped() {
  local what=$1 commands=$2 job pid
  shift 3
  "$@" >"$tmp/log" 2>&1 &
  job=$!
  eventually 20 stopped "$what" || return 1
  eval "$commands"
  kill -CONT "$pid"
  # The log begins with what `try` says.
  wait "$job" || true
  cat "$tmp/log"
  stderr=$(cat "$tmp/.stderr")
}

# stopped PROGRAM: sets $pid to a process of it that works for this store and is stopped
stopped() {
  pid=$(pgrep -f "^$1 .*$store/" -r T)
}

# small_files_only: ranks that get EFBIG where the signal would end them
small_files_only() {
  printf "#!/bin/sh\ntrap '' XFSZ\nexec \"\$@\"\n" >"$tmp/prefix"
  chmod 755 "$tmp/prefix"
  rank_prefix=("$tmp/prefix")
}

# bats test_tags=slow
@test "write_data: a file that may not grow so far is EFBIG on the rank with that limit" {
  small_files_only
  export CKPTFS_FAULT=write_data@1:stop
  # shellcheck disable=SC2016 # expanded there
  while_stopped ckptfs-mpi 'prlimit --pid "$pid" --fsize=1000000' -- on_ranks 2 save "$store/step-1" --from "$tmp/model.safetensors"
  ranks=2
  all_told '1 write_data EFBIG'
  nothing_committed
}

# bats test_tags=slow
@test "write_data: an input that is cut while the ranks save is ESTALE on the rank that wanted those bytes, and named" {
  export CKPTFS_FAULT=prepare_local_plan@1:stop
  # The file's last bytes are rank 1's.
  # shellcheck disable=SC2016 # expanded there
  while_stopped ckptfs-mpi 'truncate -s -1000 "$tmp/model.safetensors"' -- on_ranks 2 save "$store/step-1" --from "$tmp/model.safetensors"
  ranks=2
  all_told '1 write_data ESTALE'
  grep -q "$tmp/model.safetensors" <<<"$stderr"
  nothing_committed
}

# bats test_tags=slow
@test "write_data_async: what goes wrong in the background is EFBIG on its rank" {
  small_files_only
  export CKPTFS_FAULT=write_data_async@1:stop
  # shellcheck disable=SC2016 # expanded there
  while_stopped ckpt-mpi-test 'prlimit --pid "$pid" --fsize=1000000' -- ok launch 2 "$tmp/prefix" ckpt-mpi-test causes save-async "$store/step-1" 1 write_data_async EFBIG
  not grep FAILED "$tmp/log"
  grep -q '^\[exit 0\]' "$tmp/log"
  nothing_committed
}

# bats test_tags=slow
@test "pre_commit: a hook that fails is EIO, and one that outlives the time-out is killed: ETIMEDOUT" {
  # shellcheck disable=SC2016 # the hook's shell expands it
  local hook='[ "$CKPTFS_RANK" != 1 ] || '
  the_cause_says 2 '1 pre_commit EIO' save "$store/step-1" --from "$tmp/model.safetensors" --pre-commit "$hook exit 3"
  nothing_committed
  the_fault_says 2 '1 pre_commit EIO' save "$store/step-1" --from "$tmp/model.safetensors"
  local begin=$SECONDS
  the_cause_says 2 '1 pre_commit ETIMEDOUT' save "$store/step-1" --from "$tmp/model.safetensors" --pre-commit "$hook exec sleep 60" --timeout 2
  [ $((SECONDS - begin)) -le 10 ] || fail "it took $((SECONDS - begin)) s"
  nothing_committed
}

# bats test_tags=slow
@test "barrier: a rank that is stopped from outside does not arrive, and is named: ETIMEDOUT" {
  # After its pre_commit: the hook stops the rank that called it.
  # shellcheck disable=SC2016 # the hook's shell expands it
  given_up mpi 3 save "$store/step-1" --from "$tmp/model.safetensors" --timeout 1 --pre-commit '[ "$CKPTFS_RANK" != 2 ] || kill -STOP $PPID'
  says_like '^ckptfs-mpi: rank 2 on [^:]+: (pre_commit|barrier): ETIMEDOUT: '
  assert_eq "$(grep -c '^ckptfs-mpi: rank ' <<<"$stderr")" 1 rows
  nothing_committed
}

# bats test_tags=slow
@test "finish: a disk that is full by then is ENOSPC, and a shard that somebody took away ENOENT, on the coordinator" {
  requires loop
  # shellcheck disable=SC2016 # the hook's shell expands it
  local hook='[ "$CKPTFS_RANK" != 0 ] || '
  small_disk 24 "$tmp/disk"
  new_store "$tmp/disk/store"
  the_cause_says 2 '1 finish ENOSPC' save "$store/step-1" --from "$tmp/model.safetensors" --coordinator 1 \
    --pre-commit "$hook $fill_up >$tmp/disk/filler || true"
  rm "$tmp/disk/filler"
  nothing_committed
  the_cause_says 2 '0 finish ENOENT' save "$store/step-1" --from "$tmp/model.safetensors" --pre-commit "$hook rm $shard_of_1"
  nothing_committed
  the_fault_says 2 '0 finish ENOENT' save "$store/step-1" --from "$tmp/model.safetensors"
}

# bats test_tags=slow
@test "post_commit: a hook that is killed is EIO on its rank, and the checkpoint is committed" {
  # shellcheck disable=SC2016 # the hook's shell expands it
  the_cause_says 2 '1 post_commit EIO' save "$store/step-1" --from "$tmp/model.safetensors" --post-commit '[ "$CKPTFS_RANK" != 1 ] || kill -KILL $$'
  assert_eq "$(state_of step-1)" committed
  the_fault_says 2 '1 post_commit EIO' save "$store/step-2" --from "$tmp/model.safetensors"
}

# --- loading ------------------------------------------------------------------------------------------

# bats test_tags=slow
@test "set_up_storage_reader: what is not there is ENOENT, what may not be entered EACCES, another file system ENXIO on its rank" {
  requires root
  ok mpi 2 save "$store/step-1" --from "$tmp/model.safetensors"
  the_cause_says 2 '1 set_up_storage_reader ENOENT' load "$store/step-2" --coordinator 1
  only_rank 2 "mount -t tmpfs none $store/step-1"
  the_cause_says 3 '2 set_up_storage_reader ENXIO' load "$store/step-1"
  the_fault_says 3 '2 set_up_storage_reader ENXIO' load "$store/step-1"
  chmod 700 "$store/step-1"
  chmod 755 "$tmp"
  mkdir -m 777 "$tmp/told"
  told=$tmp/told run_as=("${as_nobody[@]}" TMPDIR=/tmp)
  the_cause_says 2 '0 set_up_storage_reader EACCES' load "$store/step-1"
}

# bats test_tags=slow
@test "read_metadata: a manifest that may not be read is EACCES, a damaged one EBADMSG" {
  requires root
  ok mpi 2 save "$store/step-1" --from "$tmp/model.safetensors"
  chmod 000 "$store/step-1/.ckptfs/manifest.jsonl"
  chmod 755 "$tmp"
  mkdir -m 777 "$tmp/told"
  told=$tmp/told run_as=("${as_nobody[@]}" TMPDIR=/tmp)
  the_cause_says 2 '0 read_metadata EACCES' load "$store/step-1"
  told=$tmp run_as=()
  chmod 644 "$store/step-1/.ckptfs/manifest.jsonl"
  ckpt-test flip "$store/step-1/.ckptfs/manifest.jsonl" 300 1
  the_cause_says 3 '2 read_metadata EBADMSG' load "$store/step-1" --coordinator 2
  the_fault_says 3 '2 read_metadata EBADMSG' load "$store/step-1" --coordinator 2
}

# bats test_tags=slow
@test "prepare_local_plan of a load: a box that is not in its tensor is EINVAL on the rank that wants it" {
  ok mpi-test 3 causes bad-want "$store/step-1" 1 prepare_local_plan EINVAL
}

# bats test_tags=slow
@test "prepare_global_plan of a load: an output that cannot be made is ENOENT on the coordinator" {
  ok mpi 2 save "$store/step-1" --from "$tmp/model.safetensors"
  the_cause_says 3 '1 prepare_global_plan ENOENT' load "$store/step-1" --to "$tmp/none/out" --coordinator 1
  the_fault_says 3 '1 prepare_global_plan ENOENT' load "$store/step-1" --to "$tmp/out" --coordinator 1
}

# bats test_tags=slow,sanitized
@test "read_data: a shard that is missing is ENOENT, a damaged one EBADMSG, on the rank that reads it" {
  ok mpi 2 save "$store/step-1" --from "$tmp/model.safetensors"
  ckpt-test flip "$store/step-1/$shard_of_1" 1000 1
  the_cause_says 2 '1 read_data EBADMSG' load "$store/step-1" --to "$tmp/out"
  rm "$store/step-1/$shard_of_1"
  the_cause_says 2 '1 read_data ENOENT' load "$store/step-1" --to "$tmp/out"
  [ ! -e "$tmp/out" ]
  the_fault_says 2 '1 read_data ENOENT' load "$store/step-1"
}

# bats test_tags=slow
@test "read_data_async: a shard that is missing in the background is ENOENT on the rank that reads it" {
  ok mpi-test 2 causes read-async "$store/step-1" 1 read_data_async ENOENT
}
