! ckptfs_mpi - checkpoints of a ckptfs store from Fortran 2008 and MPI (mpi_f08).
!
! Installed as source: compile it with the application, and link -lckptfs-mpi. What each call does
! stands in ckptfs_mpi(3); all of them are collective over the job's ranks but files%route,
! state%add and what only asks.
!
! Errors are told as Fortran's own statements do: with stat=, 0 or a negative errno, the same on
! every rank (ckptfs_not_found, ckptfs_exists), and errmsg= the reason; without stat= the failure
! table goes to the error unit, once, and the program ends in error stop.
!
! An array is stored with the shape that it has in Fortran: a(i,j,k) here is a[i-1,j-1,k-1] in C,
! Python and safetensors. It is read where it lies, in Fortran order, also out of a larger one:
! state%add('t', u(1:nx, 1:ny), ...) leaves the ghost cells out without a copy.
module ckptfs_mpi
  use, intrinsic :: iso_c_binding
  use, intrinsic :: iso_fortran_env, only: error_unit, int32, int64, real32, real64
  use mpi_f08, only: MPI_Comm
  implicit none
  private

  public :: ckptfs_environment, ckptfs_catch_signals

  ! stat= where nothing is there yet, and where a name is taken.
  integer, parameter, public :: ckptfs_not_found = -2
  integer, parameter, public :: ckptfs_exists = -17

  integer, parameter :: text_max = 4096
  integer, parameter :: dim_max = 3

  ! One array, as fortran_shim.h has it.
  type, bind(c) :: array_box
    type(c_ptr) :: name = c_null_ptr
    type(c_ptr) :: dtype = c_null_ptr
    type(c_ptr) :: data = c_null_ptr
    integer(c_int32_t) :: dim_count = 0
    integer(c_int32_t) :: is_whole = 0
    integer(c_int64_t) :: shape(dim_max) = 0
    integer(c_int64_t) :: start(dim_max) = 0
    integer(c_int64_t) :: size(dim_max) = 0
    integer(c_int64_t) :: strides(dim_max) = 0
  end type

  type :: array_item
    character(kind=c_char, len=:), allocatable :: name, dtype
    type(array_box) :: box
  end type

  ! The arrays of a program, told once, to save them and to load them. They are borrowed: they
  ! have TARGET, or are allocatable or pointers, and stay where they are.
  type, public :: ckptfs_state
    private
    type(array_item), allocatable :: items(:)
  contains
    ! add(name, array [, shape, lower]): this rank's part of a tensor of that shape, whose first
    ! element is a(lower), counted from 1. Without both, every rank has the whole of it.
    generic, public :: add => add_r32_1, add_r32_2, add_r32_3, add_r64_1, add_r64_2, add_r64_3, &
      add_i32_1, add_i32_2, add_i32_3
    procedure, private :: add_r32_1, add_r32_2, add_r32_3, add_r64_1, add_r64_2, add_r64_3
    procedure, private :: add_i32_1, add_i32_2, add_i32_3
  end type

  ! A communicator whose ranks write and read checkpoints together.
  type, public :: ckptfs_job
    private
    type(c_ptr) :: handle = c_null_ptr
  contains
    procedure, public :: open => job_open
    procedure, public :: close => job_close
    procedure, public :: rank => job_rank
    procedure, public :: size => job_size
    procedure, public :: usable => job_usable
    procedure, public :: print_failures => job_print_failures
    procedure, public :: save => job_save
    procedure, public :: load => job_load
    procedure, public :: latest => job_latest
    procedure, public :: passed_over => job_passed_over
    procedure, public :: should_save => job_should_save
  end type

  ! An open checkpoint, into which the program writes files by whatever library.
  type, public :: ckptfs_files
    private
    type(c_ptr) :: handle = c_null_ptr
    type(c_ptr) :: job = c_null_ptr
  contains
    procedure, public :: begin => files_begin
    procedure, public :: route => files_route
    procedure, public :: commit => files_commit
  end type

  ! ckptfs_mpi.h and fortran_shim.h.
  interface
    function c_environment() bind(c, name='ckpt_mpi_environment') result(code)
      import :: c_int
      integer(c_int) :: code
    end function
    function c_catch_signals() bind(c, name='ckpt_mpi_catch_signals') result(code)
      import :: c_int
      integer(c_int) :: code
    end function
    function c_new(comm, coordinator, timeout_secs, job, message, message_size) &
      bind(c, name='ckpt_fortran_new') result(code)
      import :: c_char, c_int, c_ptr, c_size_t
      integer(c_int), value :: comm, coordinator, timeout_secs
      type(c_ptr), intent(inout) :: job
      character(kind=c_char), intent(inout) :: message(*)
      integer(c_size_t), value :: message_size
      integer(c_int) :: code
    end function
    function c_close(job) bind(c, name='ckpt_mpi_close') result(code)
      import :: c_int, c_ptr
      type(c_ptr), intent(inout) :: job
      integer(c_int) :: code
    end function
    function c_rank(job) bind(c, name='ckpt_fortran_rank') result(rank)
      import :: c_int, c_ptr
      type(c_ptr), value :: job
      integer(c_int) :: rank
    end function
    function c_size(job) bind(c, name='ckpt_fortran_size') result(ranks)
      import :: c_int, c_ptr
      type(c_ptr), value :: job
      integer(c_int) :: ranks
    end function
    function c_usable(job) bind(c, name='ckpt_fortran_usable') result(yes)
      import :: c_int, c_ptr
      type(c_ptr), value :: job
      integer(c_int) :: yes
    end function
    function c_reporter(job) bind(c, name='ckpt_mpi_reporter') result(rank)
      import :: c_int, c_ptr
      type(c_ptr), value :: job
      integer(c_int) :: rank
    end function
    function c_failure(job, idx, line, line_size) bind(c, name='ckpt_fortran_failure') result(code)
      import :: c_char, c_int, c_ptr, c_size_t
      type(c_ptr), value :: job
      integer(c_int), value :: idx
      character(kind=c_char), intent(inout) :: line(*)
      integer(c_size_t), value :: line_size
      integer(c_int) :: code
    end function
    subroutine c_reason(code, text, text_size) bind(c, name='ckpt_fortran_reason')
      import :: c_char, c_int, c_size_t
      integer(c_int), value :: code
      character(kind=c_char), intent(inout) :: text(*)
      integer(c_size_t), value :: text_size
    end subroutine
    function c_files_begin(job, path, files) bind(c, name='ckpt_mpi_files_begin') result(code)
      import :: c_char, c_int, c_ptr
      type(c_ptr), value :: job
      character(kind=c_char), intent(in) :: path(*)
      type(c_ptr), intent(inout) :: files
      integer(c_int) :: code
    end function
    function c_files_route(files, name, out, out_size) bind(c, name='ckpt_mpi_files_route') &
      result(code)
      import :: c_char, c_int, c_ptr, c_size_t
      type(c_ptr), value :: files
      character(kind=c_char), intent(in) :: name(*)
      character(kind=c_char), intent(inout) :: out(*)
      integer(c_size_t), value :: out_size
      integer(c_int) :: code
    end function
    function c_commit(files, vote, reason, step, meta) bind(c, name='ckpt_fortran_commit') &
      result(code)
      import :: c_char, c_int, c_int64_t, c_ptr
      type(c_ptr), intent(inout) :: files
      integer(c_int), value :: vote
      character(kind=c_char), intent(in) :: reason(*), meta(*)
      integer(c_int64_t), value :: step
      integer(c_int) :: code
    end function
    function c_latest(job, group, out, out_size, result_ptr) bind(c, name='ckpt_mpi_latest') &
      result(code)
      import :: c_char, c_int, c_ptr, c_size_t
      type(c_ptr), value :: job, result_ptr
      character(kind=c_char), intent(in) :: group(*)
      character(kind=c_char), intent(inout) :: out(*)
      integer(c_size_t), value :: out_size
      integer(c_int) :: code
    end function
    function c_passed_over(job, idx) bind(c, name='ckpt_mpi_passed_over') result(line)
      import :: c_ptr, c_size_t
      type(c_ptr), value :: job
      integer(c_size_t), value :: idx
      type(c_ptr) :: line
    end function
    function c_should_save(job, signal) bind(c, name='ckpt_mpi_should_save') result(code)
      import :: c_int, c_ptr
      type(c_ptr), value :: job
      integer(c_int), intent(inout) :: signal
      integer(c_int) :: code
    end function
    function c_save(job, path, boxes, count, step, meta) bind(c, name='ckpt_fortran_save') &
      result(code)
      import :: array_box, c_char, c_int, c_int64_t, c_ptr
      type(c_ptr), value :: job
      character(kind=c_char), intent(in) :: path(*), meta(*)
      type(array_box), intent(in) :: boxes(*)
      integer(c_int), value :: count
      integer(c_int64_t), value :: step
      integer(c_int) :: code
    end function
    function c_load(job, path, boxes, count) bind(c, name='ckpt_fortran_load') result(code)
      import :: array_box, c_char, c_int, c_ptr
      type(c_ptr), value :: job
      character(kind=c_char), intent(in) :: path(*)
      type(array_box), intent(in) :: boxes(*)
      integer(c_int), value :: count
      integer(c_int) :: code
    end function
    function c_strlen(text) bind(c, name='strlen') result(length)
      import :: c_ptr, c_size_t
      type(c_ptr), value :: text
      integer(c_size_t) :: length
    end function
  end interface

contains

  ! --- strings and errors -------------------------------------------------------------------

  function to_c(text) result(out)
    character(len=*), intent(in) :: text
    character(kind=c_char, len=:), allocatable :: out

    out = trim(text)//c_null_char
  end function

  function from_c(text) result(out)
    character(len=*), intent(in) :: text
    character(len=:), allocatable :: out

    out = text(:index(text, c_null_char) - 1)
  end function

  ! What an optional argument says, or else the C side's word for none.
  function text_or_none(text) result(out)
    character(len=*), intent(in), optional :: text
    character(kind=c_char, len=:), allocatable :: out

    out = c_null_char
    if (present(text)) out = to_c(text)
  end function

  function step_or_none(step) result(out)
    integer, intent(in), optional :: step
    integer(c_int64_t) :: out

    out = -1
    if (present(step)) out = int(step, c_int64_t)
  end function

  ! '' of 0; else the first row of the table, or where there is none what the code means.
  function reason_of(job, code) result(out)
    type(c_ptr), intent(in) :: job
    integer(c_int), intent(in) :: code
    character(len=:), allocatable :: out
    character(kind=c_char, len=text_max) :: line
    integer(c_int) :: there

    out = ''
    if (code == 0) return
    there = -1
    if (c_associated(job)) there = c_failure(job, 0_c_int, line, int(text_max, c_size_t))
    if (there /= 0) call c_reason(code, line, int(text_max, c_size_t))
    out = from_c(line)
  end function

  subroutine print_table(job, unit)
    type(c_ptr), intent(in) :: job
    integer, intent(in) :: unit
    character(kind=c_char, len=text_max) :: line
    integer(c_int) :: idx

    if (c_rank(job) /= c_reporter(job)) return
    idx = 0
    do while (c_failure(job, idx, line, int(text_max, c_size_t)) == 0)
      write (unit, '(2a)') 'ckptfs: ', from_c(line)
      idx = idx + 1
    end do
    flush (unit)
  end subroutine

  ! The end of every call: hand the outcome over, or end the program as allocate() would.
  subroutine finish(job, code, stat)
    type(c_ptr), intent(in) :: job
    integer(c_int), intent(in) :: code
    integer, intent(out), optional :: stat

    if (present(stat)) then
      stat = code
    else if (code /= 0) then
      if (c_associated(job)) call print_table(job, error_unit)
      error stop 'ckptfs: a checkpoint could not be written or read'
    end if
  end subroutine

  ! --- jobs ---------------------------------------------------------------------------------

  ! Before MPI_Init: settings that keep Open MPI's MPI-IO, and so parallel HDF5, from corrupting files.
  subroutine ckptfs_environment(stat)
    integer, intent(out), optional :: stat

    call finish(c_null_ptr, c_environment(), stat)
  end subroutine

  ! From now on SIGUSR1 and SIGTERM are remembered for should_save instead of ending the program.
  subroutine ckptfs_catch_signals(stat)
    integer, intent(out), optional :: stat

    call finish(c_null_ptr, c_catch_signals(), stat)
  end subroutine

  subroutine job_open(self, comm, coordinator, timeout, stat, errmsg)
    class(ckptfs_job), intent(inout) :: self
    type(MPI_Comm), intent(in) :: comm
    integer, intent(in), optional :: coordinator, timeout ! rank 0; 600 seconds
    integer, intent(out), optional :: stat
    character(len=:), allocatable, intent(out), optional :: errmsg
    character(kind=c_char, len=text_max) :: message
    integer(c_int) :: code, rank, seconds

    rank = -1
    if (present(coordinator)) rank = int(coordinator, c_int)
    seconds = -1
    if (present(timeout)) seconds = int(max(timeout, 0), c_int)
    message = c_null_char
    code = c_new(int(comm%MPI_VAL, c_int), rank, seconds, self%handle, message, &
      int(text_max, c_size_t))
    if (code /= 0 .and. .not. present(stat)) write (error_unit, '(2a)') 'ckptfs: ', from_c(message)
    call finish(c_null_ptr, code, stat)
    if (present(errmsg)) errmsg = from_c(message)
  end subroutine

  ! Collective. A second call does nothing.
  subroutine job_close(self)
    class(ckptfs_job), intent(inout) :: self
    integer(c_int) :: code

    code = c_close(self%handle)
  end subroutine

  integer function job_rank(self)
    class(ckptfs_job), intent(in) :: self

    job_rank = c_rank(self%handle)
  end function

  integer function job_size(self)
    class(ckptfs_job), intent(in) :: self

    job_size = c_size(self%handle)
  end function

  ! .false. after a time-out: nothing but close, or MPI_Abort, may follow.
  logical function job_usable(self)
    class(ckptfs_job), intent(in) :: self

    job_usable = c_usable(self%handle) /= 0
  end function

  ! The failure table of the last call that failed, on one rank.
  subroutine job_print_failures(self, unit)
    class(ckptfs_job), intent(in) :: self
    integer, intent(in), optional :: unit

    if (present(unit)) then
      call print_table(self%handle, unit)
    else
      call print_table(self%handle, error_unit)
    end if
  end subroutine

  ! 0, or the signal that some rank has caught since the last call that said so.
  integer function job_should_save(self, stat, errmsg)
    class(ckptfs_job), intent(in) :: self
    integer, intent(out), optional :: stat
    character(len=:), allocatable, intent(out), optional :: errmsg
    integer(c_int) :: code, signal

    signal = 0
    code = c_should_save(self%handle, signal)
    if (present(errmsg)) errmsg = reason_of(self%handle, code)
    call finish(self%handle, code, stat)
    job_should_save = signal
  end function

  ! --- files --------------------------------------------------------------------------------

  subroutine files_begin(self, job, path, stat, errmsg)
    class(ckptfs_files), intent(inout) :: self
    type(ckptfs_job), intent(in) :: job
    character(len=*), intent(in) :: path
    integer, intent(out), optional :: stat
    character(len=:), allocatable, intent(out), optional :: errmsg
    integer(c_int) :: code

    self%job = job%handle
    self%handle = c_null_ptr
    code = c_files_begin(job%handle, to_c(path), self%handle)
    if (present(errmsg)) errmsg = reason_of(job%handle, code)
    call finish(job%handle, code, stat)
  end subroutine

  ! Where to write file name; local. '' where it cannot be: the commit fails then, and says why.
  function files_route(self, name) result(path)
    class(ckptfs_files), intent(in) :: self
    character(len=*), intent(in) :: name
    character(len=:), allocatable :: path
    character(kind=c_char, len=text_max) :: out
    integer(c_int) :: code

    out = c_null_char
    code = c_files_route(self%handle, to_c(name), out, int(text_max, c_size_t))
    path = from_c(out)
  end function

  ! vote: anything but 0 is this rank's vote against, for the reason.
  subroutine files_commit(self, vote, reason, step, meta, stat, errmsg)
    class(ckptfs_files), intent(inout) :: self
    integer, intent(in), optional :: vote, step
    character(len=*), intent(in), optional :: reason, meta
    integer, intent(out), optional :: stat
    character(len=:), allocatable, intent(out), optional :: errmsg
    integer(c_int) :: against, code

    against = 0
    if (present(vote)) against = merge(0_c_int, 1_c_int, vote == 0)
    code = c_commit(self%handle, against, text_or_none(reason), &
      step_or_none(step), text_or_none(meta))
    if (present(errmsg)) errmsg = reason_of(self%job, code)
    call finish(self%job, code, stat)
  end subroutine

  ! --- the latest ---------------------------------------------------------------------------

  ! path: the newest checkpoint of the group that verifies; '' and ckptfs_not_found where nothing
  ! is committed yet, which ends no program, or where all are damaged, which does.
  subroutine job_latest(self, group, path, stat, errmsg)
    class(ckptfs_job), intent(in) :: self
    character(len=*), intent(in) :: group
    character(len=:), allocatable, intent(out) :: path
    integer, intent(out), optional :: stat
    character(len=:), allocatable, intent(out), optional :: errmsg
    character(kind=c_char, len=text_max) :: out
    integer(c_int) :: code

    out = c_null_char
    code = c_latest(self%handle, to_c(group), out, int(text_max, c_size_t), c_null_ptr)
    path = from_c(out)
    if (present(errmsg)) errmsg = reason_of(self%handle, code)
    if (code == ckptfs_not_found .and. .not. present(stat)) then
      if (self%passed_over(1) == '') return
    end if
    call finish(self%handle, code, stat)
  end subroutine

  ! Line idx = 1, 2, ... of what the last latest found damaged; '' behind the last.
  function job_passed_over(self, idx) result(line)
    class(ckptfs_job), intent(in) :: self
    integer, intent(in) :: idx
    character(len=:), allocatable :: line
    character(kind=c_char), pointer :: text(:)
    type(c_ptr) :: at
    integer :: i

    at = c_passed_over(self%handle, int(max(idx, 1) - 1, c_size_t))
    line = ''
    if (.not. c_associated(at)) return
    call c_f_pointer(at, text, [c_strlen(at)])
    allocate (character(len=size(text)) :: line)
    do i = 1, size(text)
      line(i:i) = text(i)
    end do
  end function

  ! --- arrays -------------------------------------------------------------------------------

  subroutine job_save(self, path, state, step, meta, stat, errmsg)
    class(ckptfs_job), intent(in) :: self
    character(len=*), intent(in) :: path
    type(ckptfs_state), intent(inout), target :: state
    type(array_box), allocatable :: boxes(:)
    integer, intent(in), optional :: step
    character(len=*), intent(in), optional :: meta
    integer, intent(out), optional :: stat
    character(len=:), allocatable, intent(out), optional :: errmsg
    integer(c_int) :: code

    boxes = boxes_of(state)
    code = c_save(self%handle, to_c(path), boxes, &
      size(boxes, kind=c_int), step_or_none(step), text_or_none(meta))
    if (present(errmsg)) errmsg = reason_of(self%handle, code)
    call finish(self%handle, code, stat)
  end subroutine

  ! However many ranks have saved it, and whatever each had of it.
  subroutine job_load(self, path, state, stat, errmsg)
    class(ckptfs_job), intent(in) :: self
    character(len=*), intent(in) :: path
    type(ckptfs_state), intent(inout), target :: state
    type(array_box), allocatable :: boxes(:)
    integer, intent(out), optional :: stat
    character(len=:), allocatable, intent(out), optional :: errmsg
    integer(c_int) :: code

    boxes = boxes_of(state)
    code = c_load(self%handle, to_c(path), boxes, &
      size(boxes, kind=c_int))
    if (present(errmsg)) errmsg = reason_of(self%handle, code)
    call finish(self%handle, code, stat)
  end subroutine

  ! Their strings are pointed to late, because the list moves in memory while it grows.
  function boxes_of(state) result(boxes)
    type(ckptfs_state), intent(inout), target :: state
    type(array_box), allocatable :: boxes(:)
    integer :: i

    if (.not. allocated(state%items)) allocate (state%items(0))
    allocate (boxes(size(state%items)))
    do i = 1, size(boxes)
      boxes(i) = state%items(i)%box
      boxes(i)%name = c_loc(state%items(i)%name)
      boxes(i)%dtype = c_loc(state%items(i)%dtype)
    end do
  end function

  function address(at) result(out)
    type(c_ptr), intent(in) :: at
    integer(c_intptr_t) :: out

    out = transfer(at, out)
  end function

  ! at: the first element, and its neighbour along each dimension, where there is one.
  subroutine add(self, name, dtype, element_bytes, extents, at, shape, lower)
    class(ckptfs_state), intent(inout) :: self
    character(len=*), intent(in) :: name, dtype
    integer, intent(in) :: element_bytes
    integer(int64), intent(in) :: extents(:)
    type(c_ptr), intent(in) :: at(0:)
    integer(int64), intent(in), optional :: shape(:), lower(:)
    type(array_item), allocatable :: grown(:)
    type(array_box) :: box
    integer :: dim, dims

    dims = size(extents)
    box%data = at(0)
    box%dim_count = int(dims, c_int32_t)
    box%size(:dims) = extents
    box%shape(:dims) = extents
    if (present(shape)) box%shape(:dims) = shape
    if (present(lower)) box%start(:dims) = lower - 1
    if (.not. present(shape) .and. .not. present(lower)) box%is_whole = 1
    do dim = 1, dims
      ! Along a single element there is no step to take.
      box%strides(dim) = 1
      if (c_associated(at(dim))) &
        box%strides(dim) = (address(at(dim)) - address(at(0)))/element_bytes
    end do
    if (.not. allocated(self%items)) allocate (self%items(0))
    allocate (grown(size(self%items) + 1))
    grown(:size(self%items)) = self%items
    grown(size(grown))%name = to_c(name)
    grown(size(grown))%dtype = to_c(dtype)
    grown(size(grown))%box = box
    call move_alloc(grown, self%items)
  end subroutine

  subroutine add_r32_1(self, name, array, shape, lower)
    class(ckptfs_state), intent(inout) :: self
    character(len=*), intent(in) :: name
    real(real32), intent(inout), target :: array(:)
    integer(int64), intent(in), optional :: shape(1), lower(1)
    type(c_ptr) :: at(0:1)

    at = c_null_ptr
    if (size(array) > 0) at(0) = c_loc(array(1))
    if (size(array) > 0 .and. size(array, 1) > 1) at(1) = c_loc(array(2))
    call add(self, name, 'F32', 4, ubound(array, kind=int64), at, shape, lower)
  end subroutine

  subroutine add_r32_2(self, name, array, shape, lower)
    class(ckptfs_state), intent(inout) :: self
    character(len=*), intent(in) :: name
    real(real32), intent(inout), target :: array(:,:)
    integer(int64), intent(in), optional :: shape(2), lower(2)
    type(c_ptr) :: at(0:2)

    at = c_null_ptr
    if (size(array) > 0) at(0) = c_loc(array(1, 1))
    if (size(array) > 0 .and. size(array, 1) > 1) at(1) = c_loc(array(2, 1))
    if (size(array) > 0 .and. size(array, 2) > 1) at(2) = c_loc(array(1, 2))
    call add(self, name, 'F32', 4, ubound(array, kind=int64), at, shape, lower)
  end subroutine

  subroutine add_r32_3(self, name, array, shape, lower)
    class(ckptfs_state), intent(inout) :: self
    character(len=*), intent(in) :: name
    real(real32), intent(inout), target :: array(:,:,:)
    integer(int64), intent(in), optional :: shape(3), lower(3)
    type(c_ptr) :: at(0:3)

    at = c_null_ptr
    if (size(array) > 0) at(0) = c_loc(array(1, 1, 1))
    if (size(array) > 0 .and. size(array, 1) > 1) at(1) = c_loc(array(2, 1, 1))
    if (size(array) > 0 .and. size(array, 2) > 1) at(2) = c_loc(array(1, 2, 1))
    if (size(array) > 0 .and. size(array, 3) > 1) at(3) = c_loc(array(1, 1, 2))
    call add(self, name, 'F32', 4, ubound(array, kind=int64), at, shape, lower)
  end subroutine

  subroutine add_r64_1(self, name, array, shape, lower)
    class(ckptfs_state), intent(inout) :: self
    character(len=*), intent(in) :: name
    real(real64), intent(inout), target :: array(:)
    integer(int64), intent(in), optional :: shape(1), lower(1)
    type(c_ptr) :: at(0:1)

    at = c_null_ptr
    if (size(array) > 0) at(0) = c_loc(array(1))
    if (size(array) > 0 .and. size(array, 1) > 1) at(1) = c_loc(array(2))
    call add(self, name, 'F64', 8, ubound(array, kind=int64), at, shape, lower)
  end subroutine

  subroutine add_r64_2(self, name, array, shape, lower)
    class(ckptfs_state), intent(inout) :: self
    character(len=*), intent(in) :: name
    real(real64), intent(inout), target :: array(:,:)
    integer(int64), intent(in), optional :: shape(2), lower(2)
    type(c_ptr) :: at(0:2)

    at = c_null_ptr
    if (size(array) > 0) at(0) = c_loc(array(1, 1))
    if (size(array) > 0 .and. size(array, 1) > 1) at(1) = c_loc(array(2, 1))
    if (size(array) > 0 .and. size(array, 2) > 1) at(2) = c_loc(array(1, 2))
    call add(self, name, 'F64', 8, ubound(array, kind=int64), at, shape, lower)
  end subroutine

  subroutine add_r64_3(self, name, array, shape, lower)
    class(ckptfs_state), intent(inout) :: self
    character(len=*), intent(in) :: name
    real(real64), intent(inout), target :: array(:,:,:)
    integer(int64), intent(in), optional :: shape(3), lower(3)
    type(c_ptr) :: at(0:3)

    at = c_null_ptr
    if (size(array) > 0) at(0) = c_loc(array(1, 1, 1))
    if (size(array) > 0 .and. size(array, 1) > 1) at(1) = c_loc(array(2, 1, 1))
    if (size(array) > 0 .and. size(array, 2) > 1) at(2) = c_loc(array(1, 2, 1))
    if (size(array) > 0 .and. size(array, 3) > 1) at(3) = c_loc(array(1, 1, 2))
    call add(self, name, 'F64', 8, ubound(array, kind=int64), at, shape, lower)
  end subroutine

  subroutine add_i32_1(self, name, array, shape, lower)
    class(ckptfs_state), intent(inout) :: self
    character(len=*), intent(in) :: name
    integer(int32), intent(inout), target :: array(:)
    integer(int64), intent(in), optional :: shape(1), lower(1)
    type(c_ptr) :: at(0:1)

    at = c_null_ptr
    if (size(array) > 0) at(0) = c_loc(array(1))
    if (size(array) > 0 .and. size(array, 1) > 1) at(1) = c_loc(array(2))
    call add(self, name, 'I32', 4, ubound(array, kind=int64), at, shape, lower)
  end subroutine

  subroutine add_i32_2(self, name, array, shape, lower)
    class(ckptfs_state), intent(inout) :: self
    character(len=*), intent(in) :: name
    integer(int32), intent(inout), target :: array(:,:)
    integer(int64), intent(in), optional :: shape(2), lower(2)
    type(c_ptr) :: at(0:2)

    at = c_null_ptr
    if (size(array) > 0) at(0) = c_loc(array(1, 1))
    if (size(array) > 0 .and. size(array, 1) > 1) at(1) = c_loc(array(2, 1))
    if (size(array) > 0 .and. size(array, 2) > 1) at(2) = c_loc(array(1, 2))
    call add(self, name, 'I32', 4, ubound(array, kind=int64), at, shape, lower)
  end subroutine

  subroutine add_i32_3(self, name, array, shape, lower)
    class(ckptfs_state), intent(inout) :: self
    character(len=*), intent(in) :: name
    integer(int32), intent(inout), target :: array(:,:,:)
    integer(int64), intent(in), optional :: shape(3), lower(3)
    type(c_ptr) :: at(0:3)

    at = c_null_ptr
    if (size(array) > 0) at(0) = c_loc(array(1, 1, 1))
    if (size(array) > 0 .and. size(array, 1) > 1) at(1) = c_loc(array(2, 1, 1))
    if (size(array) > 0 .and. size(array, 2) > 1) at(2) = c_loc(array(1, 2, 1))
    if (size(array) > 0 .and. size(array, 3) > 1) at(3) = c_loc(array(1, 1, 2))
    call add(self, name, 'I32', 4, ubound(array, kind=int64), at, shape, lower)
  end subroutine
end module
