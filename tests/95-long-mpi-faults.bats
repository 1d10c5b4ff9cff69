#!/usr/bin/env bats
# bats file_tags=long,mpi
# Ranks that are lost: every phase of a save and a load x every rank and every pair of four x exit, kill and stop.
load helpers/common

setup() {
  requires mpi
  [ "$CKPT_MPI" = openmpi ] || skip "needs mpirun --enable-recovery of Open MPI"
  [ ! -w /dev/shm ] || memory=$(mktemp -d /dev/shm/ckptfs-XXXXXX)
}

teardown() {
  [ -z "${memory:-}" ] || rm -rf "$memory"
}

saving=(set_up_storage_writer prepare_local_plan prepare_global_plan write_data write_data_async)
saving+=(pre_commit barrier finish post_commit)
loading=(set_up_storage_reader read_metadata prepare_local_plan prepare_global_plan read_data read_data_async)

# all_lost save|load ACTION: ten jobs of four ranks at a time, which lose one rank or a pair each
all_lost() {
  local operation=$1 action=$2 phase set job rank mask sets specs names phases=("${saving[@]}")
  [ "$operation" = save ] || phases=("${loading[@]}")
  for phase in "${phases[@]}"; do
    sets=(1 2 4 8 3 5 6 9 10 12) mask=15 specs=() names=()
    case $phase in
    prepare_global_plan | finish) sets=(1 3 5 9) mask=1 ;; # only the coordinator runs it
    esac
    for set in "${sets[@]}"; do specs+=("$operation:$phase:$action:$set"); done
    rm -rf "$tmp"/lost-*
    new_store "${memory:-$tmp}/$operation-$phase"
    DEADLINE=120 ok env OMPI_MCA_orte_enable_recovery=1 \
      launch $((4 * ${#sets[@]})) ckpt-mpi-test faults-lost "$store" "$tmp/lost" "${specs[@]}" || return 1
    for job in "${!sets[@]}"; do
      names+=("$store/g$job")
      for rank in 0 1 2 3; do
        check_rank "$action" $((sets[job] & mask)) "$tmp/lost-$job.$rank" "$rank" "${specs[job]}" || return 1
      done
    done
    ok ckptfs verify "$store" || return 1
    [ "$operation" = load ] || [ "$phase" = post_commit ] || ok mpi-test 4 faults-again "${names[@]}" || return 1
  done
}

# check_rank ACTION SET FILE RANK SPEC: what it wrote; one that has ended, nothing
check_rank() {
  if [ "$1" != stop ] && (($2 >> $4 & 1)); then
    [ ! -e "$3" ] || fail "rank $4 of $5 lives"
  else
    grep -qs '^ok ' "$3" || fail "rank $4 of $5: $(cat "$3")"
  fi
}

@test "ranks that are killed while saving are named by all others, and nothing is committed" {
  all_lost save kill
}

@test "ranks that exit while saving are named by all others, and nothing is committed" {
  all_lost save exit
}

@test "ranks that stop while saving are named by all others and, continued, by themselves, and nothing is committed" {
  all_lost save stop
}

@test "ranks that are killed while loading are named by all others" {
  all_lost load kill
}

@test "ranks that exit while loading are named by all others" {
  all_lost load exit
}

@test "ranks that stop while loading are named by all others and, continued, by themselves" {
  all_lost load stop
}
