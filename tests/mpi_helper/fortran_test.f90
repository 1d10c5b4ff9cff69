! fortran_test - the module ckptfs_mpi as a Fortran program uses it.
!   fortran_test save PATH    arrays of each type and rank, cut along their last dimension, with
!                             ghost cells around one, then loaded back by the same ranks
!   fortran_test load PATH    loaded by however many ranks, compared with what was saved
!   fortran_test errors PATH  what stat and errmsg say, and the vote
program fortran_test
  use, intrinsic :: iso_fortran_env, only: error_unit, int32, int64, real32, real64
  use mpi_f08
  use ckptfs_mpi
  implicit none

  integer, parameter :: nx = 5, ny = 12, nz = 7
  type(ckptfs_job) :: job
  type(ckptfs_state) :: state
  character(len=1024) :: action, path
  integer :: rank, ranks, bad = 0
  ! This rank's part of each.
  real(real64), allocatable, target :: ghosted(:, :)
  real(real32), allocatable, target :: cube(:, :, :)
  integer(int32), allocatable, target :: line(:)
  real(real64), target :: whole(3)

  call get_command_argument(1, action)
  call get_command_argument(2, path)
  call ckptfs_environment()
  call MPI_Init()
  call MPI_Comm_rank(MPI_COMM_WORLD, rank)
  call MPI_Comm_size(MPI_COMM_WORLD, ranks)
  call job%open(MPI_COMM_WORLD, coordinator=ranks - 1, timeout=60)
  select case (action)
  case ('save')
    call make_state()
    call fill()
    call job%save(trim(path), state, step=3, meta='{"code":"fortran"}')
    call clear()
    call job%load(trim(path), state)
    call compare()
  case ('load')
    call make_state()
    call job%load(trim(path), state)
    call compare()
  case ('errors')
    call try_errors()
  case default
    call complain('unknown action')
  end select
  call job%close()
  call job%close()
  call MPI_Allreduce(MPI_IN_PLACE, bad, 1, MPI_INTEGER, MPI_SUM, MPI_COMM_WORLD)
  call MPI_Finalize()
  if (bad /= 0) error stop 1

contains

  subroutine complain(what)
    character(len=*), intent(in) :: what

    write (error_unit, '(a,i0,2a)') 'rank ', rank, ': ', what
    bad = 1
  end subroutine

  ! This rank's part of n: where it begins, counted from 1, and how many.
  subroutine cut(n, lower, count)
    integer, intent(in) :: n
    integer, intent(out) :: lower, count

    lower = n*rank/ranks + 1
    count = n*(rank + 1)/ranks - lower + 1
  end subroutine

  pure real(real64) function value(i, j, k)
    integer, intent(in) :: i, j, k

    value = i + 100*j + 10000*k
  end function

  subroutine make_state()
    integer :: at, n

    call cut(ny, at, n)
    allocate (ghosted(0:nx + 1, 0:n + 1))
    call state%add('ghosted', ghosted(1:nx, 1:n), shape=int([nx, ny], int64), &
      lower=int([1, at], int64))
    call cut(nz, at, n)
    allocate (cube(nx, 3, n))
    call state%add('cube', cube, shape=int([nx, 3, nz], int64), lower=int([1, 1, at], int64))
    call cut(ny, at, n)
    allocate (line(n))
    call state%add('line', line, shape=int([ny], int64), lower=int([at], int64))
    call state%add('whole', whole)
    call clear()
  end subroutine

  subroutine clear()
    ghosted = -1
    cube = -1
    line = -1
    whole = -1
  end subroutine

  subroutine fill()
    integer :: i, j, k, at, n

    call cut(ny, at, n)
    do concurrent(i=1:nx, j=1:n)
      ghosted(i, j) = value(i, at + j - 1, 0)
    end do
    do j = 1, n
      line(j) = at + j - 1
    end do
    call cut(nz, at, n)
    do concurrent(i=1:nx, j=1:3, k=1:n)
      cube(i, j, k) = real(value(i, j, at + k - 1), real32)
    end do
    whole = [1, 2, 3]
  end subroutine

  ! What fill() would give, and ghost cells untouched.
  subroutine compare()
    real(real64), allocatable :: is2(:, :)
    real(real32), allocatable :: is3(:, :, :)
    integer(int32), allocatable :: is1(:)
    real(real64) :: is0(3)

    is2 = ghosted
    is3 = cube
    is1 = line
    is0 = whole
    call clear()
    call fill()
    if (any(abs(is2 - ghosted) > 0)) call complain('ghosted differs')
    if (any(abs(is3 - cube) > 0)) call complain('cube differs')
    if (any(is1 /= line)) call complain('line differs')
    if (any(abs(is0 - whole) > 0)) call complain('whole differs')
  end subroutine

  subroutine expect(what, stat, should_be, errmsg, words)
    character(len=*), intent(in) :: what, errmsg, words
    integer, intent(in) :: stat, should_be

    if (stat /= should_be) then
      call complain(what//': stat is wrong: '//errmsg)
    else if (index(errmsg, words) == 0) then
      call complain(what//': errmsg is: '//errmsg)
    end if
  end subroutine

  subroutine write_text(path)
    character(len=*), intent(in) :: path
    integer :: unit

    open (newunit=unit, file=path, status='replace', action='write')
    write (unit, '(a)') 'hello'
    close (unit)
  end subroutine

  subroutine try_errors()
    type(ckptfs_files) :: files
    real(real64), target :: odd(2)
    character(len=:), allocatable :: found, errmsg
    integer :: stat

    call job%latest(trim(path), found)
    if (found /= '') call complain('something is the latest')
    call job%latest(trim(path), found, stat, errmsg)
    call expect('latest', stat, ckptfs_not_found, errmsg, 'nothing is committed')
    call files%begin(job, trim(path)//'/files')
    call write_text(files%route('text'))
    call files%commit(vote=merge(1, 0, rank == 0), reason='no room', stat=stat, errmsg=errmsg)
    call expect('vote', stat, -5, errmsg, 'write_data: EIO: no room')
    call files%begin(job, trim(path)//'/files')
    call write_text(files%route('text'))
    if (files%route('../out') /= '') call complain('a route leads out')
    call files%commit(stat=stat, errmsg=errmsg)
    call expect('route', stat, -22, errmsg, "'../out'")
    call files%begin(job, trim(path)//'/files')
    if (rank == 0) call write_text(files%route('text'))
    call files%commit(step=4)
    call files%begin(job, trim(path)//'/files', stat, errmsg)
    call expect('taken', stat, ckptfs_exists, errmsg, 'committed already')
    call job%latest(trim(path), found)
    if (index(found, '/files') == 0) call complain('the latest is '//found)
    if (job%passed_over(1) /= '') call complain('passed over: '//job%passed_over(1))
    odd = 1
    call state%add('odd', odd(2:1:-1))
    call job%save(trim(path)//'/odd', state, stat=stat, errmsg=errmsg)
    call expect('backwards', stat, -22, errmsg, 'backwards')
    call job%load(found, state, stat, errmsg)
    call expect('load', stat, -22, errmsg, 'backwards')
    if (job%should_save() /= 0) call complain('a signal came')
    if (job%rank() /= rank .or. job%size() /= ranks .or. .not. job%usable()) &
      call complain('the job does not know itself')
  end subroutine
end program
