! heat.f90 - the 2-D heat equation of heat.c, in Fortran with parallel HDF5: an example of
! ckptfs_mpi in file mode.
!
!   mpirun -n 4 heat-f90 --store /data/store --group heat --grid 1024 1024 \
!                        --steps 10000 --every 500 --out field.bin
!
! A program that writes checkpoints already, by whatever library, changes three lines:
!
!   -  call write_field('step-'//text(step)//'.h5', failed)
!   +  call files%begin(job, group//'/step-'//text(step), stat)
!   +  call write_field(files%route('field.h5'), failed)
!   +  call files%commit(vote=failed, stat=stat)
!
! and has one whole, verified checkpoint or none, whatever is killed and when. With the same command,
! on any number of ranks, it goes on from the newest sound one; the field at the end is, bit for bit,
! the one that a run without interruption gives.
program heat
  use, intrinsic :: iso_fortran_env, only: error_unit, output_unit, real64
  use mpi_f08
  use hdf5
  use ckptfs_mpi
  implicit none

  integer, parameter :: sigterm = 15
  ! Options.
  integer :: grid(2) = [256, 256], steps = 1000, every = 100
  character(len=:), allocatable :: store, group, out
  ! This rank's block, with a row or column of ghost cells on each side.
  type(MPI_Comm) :: comm
  type(MPI_Datatype) :: row
  integer :: rank, ranks, start(2), extent(2)
  real(real64), allocatable, target :: now(:, :), next(:, :)
  integer :: step = 0, hdf_failed
  type(ckptfs_job) :: job
  logical :: ends

  ! Open MPI's own MPI-IO, and HDF5 above it, has settings that corrupt files: see ckptfs_mpi(3).
  call ckptfs_environment()
  call MPI_Init()
  call h5open_f(hdf_failed)
  call h5eset_auto_f(0, hdf_failed) ! errors are told by votes
  call parse()
  call set_up()
  call ckptfs_catch_signals()
  call job%open(comm)
  call resume()
  ends = .false.
  do while (step < steps .and. .not. ends)
    call advance()
    call look_for_signals(ends)
    if (.not. ends .and. mod(step, every) == 0) call save()
  end do
  if (ends .and. rank == 0) call say('ended by a signal at step '//text(step))
  if (.not. ends .and. len(out) > 0) call write_out()
  call job%close()
  call h5close_f(hdf_failed)
  call MPI_Finalize()

contains

  ! --- checkpoints ------------------------------------------------------------------------

  subroutine save()
    type(ckptfs_files) :: files
    integer :: failed, stat

    call files%begin(job, group//'/step-'//text(step), stat)
    call write_field(files%route('field.h5'), failed)
    call files%commit(vote=failed, stat=stat)
    ! The next one may succeed, unless a rank is gone.
    if (stat /= 0) then
      call job%print_failures()
      if (.not. job%usable()) call stop_all('a rank does not answer')
    else if (rank == 0) then
      call say('saved step-'//text(step))
    end if
  end subroutine

  ! From the newest sound checkpoint, or from the beginning.
  subroutine resume()
    character(len=:), allocatable :: path, errmsg
    integer :: failed, stat, i

    call job%latest(group, path, stat, errmsg)
    i = 1
    do while (job%passed_over(i) /= '')
      if (rank == 0) write (error_unit, '(2a)') 'heat-f90: passed over: ', job%passed_over(i)
      i = i + 1
    end do
    if (stat == ckptfs_not_found .and. job%passed_over(1) == '') then
      call fill()
      if (rank == 0) call say('starting anew on '//number(ranks)//' ranks')
      return
    end if
    ! Nothing sound where there was something: not for us to start over.
    if (stat /= 0) call stop_all('cannot resume: '//errmsg)
    call read_field(path//'/field.h5', failed)
    if (failed /= 0) call stop_all('cannot read '//path//'/field.h5; is it of another --grid?')
    if (rank == 0) call say('resumed from '//path//' on '//number(ranks)//' ranks')
  end subroutine

  ! Slurm, or whoever wants the machine, sends SIGUSR1 to be saved, SIGTERM to be saved and end.
  subroutine look_for_signals(ends)
    logical, intent(out) :: ends
    integer :: signal

    signal = job%should_save()
    if (signal /= 0) call save()
    ends = signal == sigterm
  end subroutine

  ! --- parallel HDF5, that knows nothing of checkpoints -----------------------------------

  subroutine note(error, failed)
    integer, intent(in) :: error
    integer, intent(inout) :: failed

    if (error /= 0) failed = 1
  end subroutine

  ! The part of the file, and of the memory without ghost cells, that is this rank's.
  subroutine select_block(in_file, in_memory, failed)
    integer(hid_t), intent(in) :: in_file
    integer(hid_t), intent(out) :: in_memory
    integer, intent(inout) :: failed
    integer(hsize_t) :: first(2), many(2), inside(2)
    integer :: error

    first = start
    many = extent
    inside = 1
    call h5screate_simple_f(2, many + 2, in_memory, error)
    call note(error, failed)
    call h5sselect_hyperslab_f(in_memory, H5S_SELECT_SET_F, inside, many, error)
    call note(error, failed)
    call h5sselect_hyperslab_f(in_file, H5S_SELECT_SET_F, first, many, error)
    call note(error, failed)
  end subroutine

  subroutine collective_lists(access, transfer, failed)
    integer(hid_t), intent(out) :: access, transfer
    integer, intent(inout) :: failed
    integer :: error

    call h5pcreate_f(H5P_FILE_ACCESS_F, access, error)
    call note(error, failed)
    call h5pset_fapl_mpio_f(access, comm%MPI_VAL, MPI_INFO_NULL%MPI_VAL, error)
    call note(error, failed)
    call h5pcreate_f(H5P_DATASET_XFER_F, transfer, error)
    call note(error, failed)
    call h5pset_dxpl_mpio_f(transfer, H5FD_MPIO_COLLECTIVE_F, error)
    call note(error, failed)
  end subroutine

  subroutine write_field(path, failed)
    character(len=*), intent(in) :: path
    integer, intent(out) :: failed
    integer(hid_t) :: access, transfer, file, space, memory, dataset, scalar, attribute
    integer(hsize_t) :: whole(2), one(1)
    integer :: error

    failed = 0
    whole = grid
    one = 1
    call collective_lists(access, transfer, failed)
    call h5fcreate_f(path, H5F_ACC_TRUNC_F, file, error, access_prp=access)
    call note(error, failed)
    if (failed /= 0) return
    call h5screate_simple_f(2, whole, space, error)
    call note(error, failed)
    call h5dcreate_f(file, 'temperature', H5T_NATIVE_DOUBLE, space, dataset, error)
    call note(error, failed)
    call select_block(space, memory, failed)
    call h5dwrite_f(dataset, H5T_NATIVE_DOUBLE, now, whole, error, memory, space, transfer)
    call note(error, failed)
    call h5screate_f(H5S_SCALAR_F, scalar, error)
    call note(error, failed)
    call h5acreate_f(dataset, 'step', H5T_NATIVE_INTEGER, scalar, attribute, error)
    call note(error, failed)
    call h5awrite_f(attribute, H5T_NATIVE_INTEGER, step, one, error)
    call note(error, failed)
    call h5aclose_f(attribute, error)
    call h5sclose_f(scalar, error)
    call h5sclose_f(memory, error)
    call h5dclose_f(dataset, error)
    call h5sclose_f(space, error)
    call h5pclose_f(transfer, error)
    call h5pclose_f(access, error)
    call h5fclose_f(file, error)
    call note(error, failed)
  end subroutine

  subroutine read_field(path, failed)
    character(len=*), intent(in) :: path
    integer, intent(out) :: failed
    integer(hid_t) :: access, transfer, file, space, memory, dataset, attribute
    integer(hsize_t) :: whole(2), limit(2), one(1)
    integer :: error

    failed = 0
    one = 1
    call collective_lists(access, transfer, failed)
    call h5fopen_f(path, H5F_ACC_RDONLY_F, file, error, access_prp=access)
    call note(error, failed)
    if (failed /= 0) return
    call h5dopen_f(file, 'temperature', dataset, error)
    call note(error, failed)
    call h5dget_space_f(dataset, space, error)
    call note(error, failed)
    call h5sget_simple_extent_dims_f(space, whole, limit, error)
    if (any(whole /= grid)) failed = 1
    if (failed /= 0) return
    call select_block(space, memory, failed)
    call h5dread_f(dataset, H5T_NATIVE_DOUBLE, now, whole, error, memory, space, transfer)
    call note(error, failed)
    call h5aopen_f(dataset, 'step', attribute, error)
    call note(error, failed)
    call h5aread_f(attribute, H5T_NATIVE_INTEGER, step, one, error)
    call note(error, failed)
    call h5aclose_f(attribute, error)
    call h5sclose_f(memory, error)
    call h5sclose_f(space, error)
    call h5dclose_f(dataset, error)
    call h5pclose_f(transfer, error)
    call h5pclose_f(access, error)
    call h5fclose_f(file, error)
    call note(error, failed)
  end subroutine

  ! --- the physics ------------------------------------------------------------------------

  ! A hot square in a cold plate with one warm edge.
  subroutine fill()
    integer :: i, j, x, y

    do j = 1, extent(2)
      do i = 1, extent(1)
        x = start(1) + i - 1
        y = start(2) + j - 1
        now(i, j) = 0
        if (x > grid(1)/4 .and. x < grid(1)/2 .and. y > grid(2)/4 .and. y < grid(2)/2) now(i, j) = 100
        if (y == 0) now(i, j) = 50
      end do
    end do
  end subroutine

  ! The neighbours' outermost rows and columns become this block's ghost cells.
  subroutine exchange()
    integer :: before, behind, n, m

    n = extent(1)
    m = extent(2)
    call MPI_Cart_shift(comm, 0, 1, before, behind)
    call MPI_Sendrecv(now(1, 1), 1, row, before, 0, now(n + 1, 1), 1, row, behind, 0, comm, &
      MPI_STATUS_IGNORE)
    call MPI_Sendrecv(now(n, 1), 1, row, behind, 1, now(0, 1), 1, row, before, 1, comm, &
      MPI_STATUS_IGNORE)
    call MPI_Cart_shift(comm, 1, 1, before, behind)
    call MPI_Sendrecv(now(1, 1), n, MPI_DOUBLE_PRECISION, before, 2, now(1, m + 1), n, &
      MPI_DOUBLE_PRECISION, behind, 2, comm, MPI_STATUS_IGNORE)
    call MPI_Sendrecv(now(1, m), n, MPI_DOUBLE_PRECISION, behind, 3, now(1, 0), n, &
      MPI_DOUBLE_PRECISION, before, 3, comm, MPI_STATUS_IGNORE)
  end subroutine

  ! Jacobi: every new value depends on old ones alone. The plate's own edge stays as it is.
  subroutine advance()
    real(real64), allocatable :: done(:, :)
    integer :: i, j, x, y

    call exchange()
    do j = 1, extent(2)
      do i = 1, extent(1)
        x = start(1) + i - 1
        y = start(2) + j - 1
        if (x == 0 .or. y == 0 .or. x == grid(1) - 1 .or. y == grid(2) - 1) then
          next(i, j) = now(i, j)
        else
          next(i, j) = now(i, j) + 0.2_real64*(now(i - 1, j) + now(i + 1, j) + now(i, j - 1) + &
            now(i, j + 1) - 4*now(i, j))
        end if
      end do
    end do
    call move_alloc(now, done)
    call move_alloc(next, now)
    call move_alloc(done, next)
    step = step + 1
  end subroutine

  ! --- beginning and end ------------------------------------------------------------------

  function text(n)
    integer, intent(in) :: n
    character(len=6) :: text

    write (text, '(i6.6)') n
  end function

  function number(n)
    integer, intent(in) :: n
    character(len=:), allocatable :: number
    character(len=12) :: digits

    write (digits, '(i0)') n
    number = trim(digits)
  end function

  subroutine say(line)
    character(len=*), intent(in) :: line

    write (output_unit, '(a)') line
    flush (output_unit)
  end subroutine

  ! All ranks have the same to say: one of them says it, and ends the others.
  subroutine stop_all(what)
    character(len=*), intent(in) :: what
    integer :: world_rank

    call MPI_Comm_rank(MPI_COMM_WORLD, world_rank)
    if (world_rank == 0) then
      write (error_unit, '(2a)') 'heat-f90: ', what
      flush (error_unit)
      call MPI_Abort(MPI_COMM_WORLD, 1)
    end if
    call MPI_Barrier(MPI_COMM_WORLD)
  end subroutine

  function argument(i)
    integer, intent(in) :: i
    character(len=:), allocatable :: argument
    integer :: length

    call get_command_argument(i, length=length)
    allocate (character(len=length) :: argument)
    call get_command_argument(i, argument)
  end function

  integer function integer_argument(i)
    integer, intent(in) :: i
    character(len=:), allocatable :: given
    integer :: failed

    given = argument(i)
    read (given, *, iostat=failed) integer_argument
    if (failed /= 0) call stop_all("a number is wrong or missing; see the top of heat.f90")
  end function

  subroutine parse()
    integer :: i

    store = ''
    group = 'heat'
    out = ''
    i = 1
    do while (i <= command_argument_count())
      select case (argument(i))
      case ('--grid')
        grid = [integer_argument(i + 1), integer_argument(i + 2)]
        i = i + 1
      case ('--steps')
        steps = integer_argument(i + 1)
      case ('--every')
        every = integer_argument(i + 1)
      case ('--store')
        store = argument(i + 1)
      case ('--group')
        group = argument(i + 1)
      case ('--out')
        out = argument(i + 1)
      case default
        call stop_all('unknown option '//argument(i)//'; see the top of heat.f90')
      end select
      i = i + 2
    end do
    if (store == '') call stop_all("--store PATH is missing: a folder made by 'ckptfs init'")
    if (every < 1) call stop_all('--every takes 1 or more')
    group = store//'/'//group
  end subroutine

  subroutine set_up()
    integer :: dims(2), at(2)

    call MPI_Comm_size(MPI_COMM_WORLD, ranks)
    dims = 0
    call MPI_Dims_create(ranks, 2, dims)
    call MPI_Cart_create(MPI_COMM_WORLD, 2, dims, [.false., .false.], .true., comm)
    call MPI_Comm_rank(comm, rank)
    call MPI_Cart_coords(comm, rank, 2, at)
    if (any(grid < dims)) call stop_all('--grid has fewer rows or columns than the process grid')
    start = grid*at/dims
    extent = grid*(at + 1)/dims - start
    allocate (now(0:extent(1) + 1, 0:extent(2) + 1), next(0:extent(1) + 1, 0:extent(2) + 1))
    now = 0
    next = 0
    call MPI_Type_vector(extent(2), 1, extent(1) + 2, MPI_DOUBLE_PRECISION, row)
    call MPI_Type_commit(row)
  end subroutine

  ! The field as raw doubles, by MPI-IO.
  subroutine write_out()
    type(MPI_Datatype) :: in_file, in_memory
    type(MPI_File) :: file

    call MPI_Type_create_subarray(2, grid, extent, start, MPI_ORDER_FORTRAN, MPI_DOUBLE_PRECISION, &
      in_file)
    call MPI_Type_create_subarray(2, extent + 2, extent, [1, 1], MPI_ORDER_FORTRAN, &
      MPI_DOUBLE_PRECISION, in_memory)
    call MPI_Type_commit(in_file)
    call MPI_Type_commit(in_memory)
    call MPI_File_open(comm, out, MPI_MODE_CREATE + MPI_MODE_WRONLY, MPI_INFO_NULL, file)
    call MPI_File_set_view(file, 0_MPI_OFFSET_KIND, MPI_DOUBLE_PRECISION, in_file, 'native', &
      MPI_INFO_NULL)
    call MPI_File_write_all(file, now, 1, in_memory, MPI_STATUS_IGNORE)
    call MPI_File_close(file)
  end subroutine
end program
