//! Changes the file that our own program runs from, while the program runs. execve(2) of that file would do the same, and start
//! the program again.

use std::ffi::{CStr, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr;

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;

use super::clone::Alone;
use super::maps::{self, Mapping};
use super::mount::{Attributes, Reach, set_attributes};
use super::process_stat::ProcessStat;
use super::{last_error, mapped};

const OWN: &CStr = c"/proc/self/exe";
/// The seals of a copy, besides the one against writing.
const FIXED_SIZE: SealFlags = SealFlags::GROW.union(SealFlags::SHRINK).union(SealFlags::SEAL);

/// A file with the content of our program's file that no process can write. Our program can be mapped from it.
#[derive(Debug)]
pub struct OwnFile(OwnedFd);

impl OwnFile {
    /// The same file, by a detached read-only mount. Returns the mount too, which must be closed before a container can see us.
    ///
    /// # Errors
    /// Those of open_tree(2), mount_setattr(2) and open(2).
    pub fn by_read_only_mount() -> Result<(OwnFile, OwnedFd), Errno> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = rustix::mount::open_tree(CWD, OWN, flags)?;
        let attributes = Attributes { propagation: libc::MS_PRIVATE, ..Attributes::read_only() };
        set_attributes(mount.as_fd(), &attributes, Reach::One)?;
        // a mount that is one file cannot be mapped: its file must be opened
        let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok((OwnFile(file), mount))
    }

    /// A copy in memory that has all seals (memfd_create(2)).
    ///
    /// # Errors
    /// Those of memfd_create(2), sendfile(2) and fcntl(2).
    pub fn sealed_copy() -> Result<OwnFile, Errno> {
        let own = open_own()?;
        let copy = rustix::fs::memfd_create(c"coracle", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        while rustix::fs::sendfile(&copy, &own, None, 1 << 24)? > 0 {}
        match rustix::fs::fcntl_add_seals(&copy, SealFlags::WRITE | FIXED_SIZE) {
            // on a busy machine the kernel itself may still hold a page; no process has a writable mapping, and this
            // seal prevents new ones
            Err(Errno::BUSY) => rustix::fs::fcntl_add_seals(&copy, SealFlags::FUTURE_WRITE | FIXED_SIZE)?,
            other => other?,
        }
        Ok(OwnFile(copy))
    }
}

impl AsFd for OwnFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn open_own() -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// True when our program runs from a sealed copy in memory. Nobody can remove a seal (fcntl(2), F_ADD_SEALS).
pub fn is_sealed() -> bool {
    let seals = open_own().and_then(rustix::fs::fcntl_get_seals);
    seals.is_ok_and(|seals| seals.contains(FIXED_SIZE) && seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE))
}

/// Maps every piece of our program again, from `file`, and makes /proc/self/exe refer to that file. If this fails, the program
/// continues as before: some pieces may be mapped again.
///
/// # Errors
/// `BUSY` in a program of several threads (one could write while its data moves), `PERM` without CAP_SYS_ADMIN or
/// CAP_CHECKPOINT_RESTORE over our user namespace, `INVAL` on a kernel without checkpoint/restore, and those of mmap(2)
/// and mremap(2).
pub fn map_again_from(file: &OwnFile) -> Result<(), Errno> {
    let own = OwnProgram::of_now()?;
    if own.threads != 1 {
        return Err(Errno::BUSY);
    }
    super::command_line::remember(own.map.strings.map(address));
    own.map_again(file)
}

/// Gives back the pages of the program's file that nobody writes: its code and its constants. The page cache keeps them, and each
/// comes back when it is used (madvise(2), MADV_DONTNEED).
///
/// # Errors
/// `NOEXEC` if the program has more parts than we know, and those of madvise(2).
pub fn give_back_pages() -> Result<(), Errno> {
    for piece in pieces()?.iter().filter(|piece| piece.length > 0 && !piece.writable) {
        // SAFETY: the piece is mapped from a file and never written, so the kernel reads the same bytes again.
        let done = unsafe { libc::madvise(piece.at as *mut c_void, piece.length, libc::MADV_DONTNEED) };
        super::checked(done.into())?;
    }
    Ok(())
}

/// Where our program is in memory. With this, a child can map it again by system calls alone.
#[derive(Debug)]
pub struct OwnProgram {
    map: PrctlMmMap,
    pieces: Pieces,
    threads: u64,
}

impl OwnProgram {
    /// As it is now. Only the end of the heap changes later.
    ///
    /// # Errors
    /// Those of reading /proc/self/stat; `INVAL` when it does not say.
    pub fn of_now() -> Result<OwnProgram, Errno> {
        let (map, threads) = PrctlMmMap::of_now()?;
        Ok(OwnProgram { map, pieces: pieces()?, threads })
    }

    /// `map_again_from` in a child, which has one thread and its own memory, even if its parent has several threads.
    ///
    /// # Errors
    /// Those of `map_again_from`.
    pub fn map_again_in_child(&self, _alone: &Alone, file: &OwnFile) -> Result<(), Errno> {
        self.map_again(file)
    }

    fn map_again(&self, file: &OwnFile) -> Result<(), Errno> {
        let file = file.as_fd();
        self.must_be_from(file)?;
        self.pieces.iter().take_while(|piece| piece.length > 0).try_for_each(|piece| piece.map_again(file))?;
        match self.set_file(file) {
            // The program has mapped its own file once more: a backtrace of the standard library reads its symbols there.
            Err(Errno::BUSY) => self.map_others_again(file).and_then(|()| self.set_file(file)),
            done => done,
        }
    }

    /// From now on, /proc/self/exe is `file`.
    ///
    /// # Errors
    /// `BUSY` if the file that it was is still mapped, and those of `map_again_from`.
    fn set_file(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        let map = PrctlMmMap {
            // SAFETY: brk(2) of 0 moves nothing.
            brk: unsafe { libc::syscall(libc::SYS_brk, 0) }.cast_unsigned(),
            exe_fd: file.as_raw_fd().cast_unsigned(),
            ..self.map
        };
        // SAFETY: the kernel reads one Map; it moves no memory, it only notes where things are, and they are where they were.
        let done =
            unsafe { libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP, &raw const map, size_of::<PrctlMmMap>(), 0) };
        if done == 0 { Ok(()) } else { Err(last_error()) }
    }

    /// Maps again what the program itself has mapped of its file, besides its pieces.
    fn map_others_again(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        // How the kernel names the file of a mapping differs from stat(2) on some file systems: a mapping of it tells.
        let sample = Piece { length: page_size(), protection: libc::PROT_READ, ..Piece::default() };
        let at = sample.map(open_own()?.as_fd(), ptr::null_mut(), 0)?;
        let mut own = None;
        let read = maps::each(|mapping| own = own.or(Some(mapping).filter(|mapping| mapping.contains(at as usize))));
        // SAFETY: our own mapping, which nothing leads to.
        unsafe { libc::munmap(at, sample.length) };
        let own = read.and(own.ok_or(Errno::INVAL))?.file;
        let (mut others, mut count) = ([Piece::default(); 16], 0);
        maps::each(|mapping| {
            if mapping.file == own && !self.pieces.iter().any(|piece| piece.contains(&mapping)) {
                if let Some(other) = others.get_mut(count) {
                    *other = Piece::from(mapping);
                }
                count += 1;
            }
        })?;
        others.get(..count).ok_or(Errno::BUSY)?.iter().try_for_each(|other| other.map_again(file))
    }

    /// /proc/self/exe is another file where the program was started by `ld.so ./program`. The first bytes tell: the header of an
    /// ELF file says where its parts are, and the build id follows soon.
    fn must_be_from(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        let mut there = [0u8; 1024];
        let first = self.pieces.iter().find(|piece| piece.offset == 0 && piece.length >= there.len());
        let first = first.filter(|piece| !piece.writable).ok_or(Errno::NOEXEC)?;
        let read = rustix::io::pread(file, &mut there, 0)?;
        // SAFETY: this part of the program is mapped as long as the program runs, and nothing writes to it.
        let ours = unsafe { std::slice::from_raw_parts(first.at as *const u8, there.len()) };
        if read == there.len() && ours == there { Ok(()) } else { Err(Errno::NOEXEC) }
    }
}

/// The kernel's notes about the memory of a program (struct prctl_mm_map, linux/prctl.h). This operation of prctl(2)
/// changes the file of a program without CAP_SYS_RESOURCE. It sets all the values at once.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct PrctlMmMap {
    code: [u64; 2],
    data: [u64; 2],
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    /// Begin and end of the arguments, then of the environment.
    strings: [u64; 4],
    auxv: u64,
    /// 0 if the auxiliary vector stays as it is.
    auxv_size: u32,
    exe_fd: u32,
}

impl PrctlMmMap {
    /// The values of now (proc_pid_stat(5)), without the file and the end of the heap; and the number of threads.
    fn of_now() -> Result<(PrctlMmMap, u64), Errno> {
        let stat = ProcessStat::read(Path::new("/proc/self/stat"))?;
        let field = |n: usize| stat.number(n);
        let fields = |first: usize| field(first).zip(field(first + 1)).map(|(a, b)| [a, b]).ok_or(Errno::INVAL);
        let ([args, args_end], [env, env_end]) = (fields(48)?, fields(50)?);
        let map = PrctlMmMap {
            code: fields(26)?,
            data: fields(45)?,
            start_brk: field(47).ok_or(Errno::INVAL)?,
            brk: 0,
            start_stack: field(28).ok_or(Errno::INVAL)?,
            strings: [args, args_end, env, env_end],
            auxv: 0,
            auxv_size: 0,
            exe_fd: 0,
        };
        Ok((map, field(20).ok_or(Errno::INVAL)?))
    }
}

/// A part of the program that is loaded from its file (elf(5), PT_LOAD), or that it has mapped itself, in whole pages.
#[derive(Clone, Copy, Debug, Default)]
struct Piece {
    at: usize,
    length: usize,
    offset: libc::off_t,
    writable: bool,
    protection: c_int,
    /// How much of it, from its start, is read-only once the program is loaded (PT_GNU_RELRO).
    read_only: usize,
}

/// From the auxiliary vector, without a system call.
fn page_size() -> usize {
    // SAFETY: getauxval(3) reads what the kernel has put there.
    address(unsafe { libc::getauxval(libc::AT_PAGESZ) })
}

/// An array, because nothing may be allocated while data moves. Unused entries are empty.
type Pieces = [Piece; 8];

fn pieces() -> Result<Pieces, Errno> {
    let mut found: Result<Pieces, Errno> = Err(Errno::NOEXEC);
    // SAFETY: `first_program` takes what dl_iterate_phdr(3) gives, and `found` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(first_program), (&raw mut found).cast()) };
    found
}

/// dl_iterate_phdr(3) calls this for the program first.
///
/// # Safety
/// `about` and its headers are valid, and `found` is that of `pieces`, as dl_iterate_phdr(3) hands them on.
unsafe extern "C" fn first_program(about: *mut libc::dl_phdr_info, _size: usize, found: *mut c_void) -> c_int {
    // SAFETY: see above.
    let (about, found) = unsafe { (&*about, &mut *found.cast::<Result<Pieces, Errno>>()) };
    // SAFETY: the headers are a part of the program, mapped as long as it runs.
    let headers = unsafe { std::slice::from_raw_parts(about.dlpi_phdr, about.dlpi_phnum.into()) };
    *found = pieces_of(headers, address(about.dlpi_addr));
    1
}

#[allow(clippy::cast_possible_truncation)] // 64 bits on every processor that we know (`sys`)
fn address(number: u64) -> usize {
    number as usize
}

fn pieces_of(headers: &[libc::Elf64_Phdr], base: usize) -> Result<Pieces, Errno> {
    let page = page_size();
    let mut pieces = Pieces::default();
    let loaded = headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_filesz > 0);
    let mut places = pieces.iter_mut();
    for header in loaded {
        let begin = base.wrapping_add(address(header.p_vaddr));
        let (at, end) = (begin & !(page - 1), (begin + address(header.p_filesz)).next_multiple_of(page));
        let offset = libc::off_t::try_from(header.p_offset).map_err(|_| Errno::NOEXEC)?;
        let flag = |flag, protection| if header.p_flags & flag == 0 { 0 } else { protection };
        *places.next().ok_or(Errno::NOEXEC)? = Piece {
            at,
            length: end - at,
            offset: offset & !libc::off_t::try_from(page - 1).map_err(|_| Errno::NOEXEC)?,
            writable: header.p_flags & libc::PF_W != 0,
            protection: flag(libc::PF_R, libc::PROT_READ)
                | flag(libc::PF_W, libc::PROT_WRITE)
                | flag(libc::PF_X, libc::PROT_EXEC),
            read_only: relro_length(headers, base, at, page),
        };
    }
    Ok(pieces)
}

/// How many bytes of the piece at `at` are read-only once the program is loaded. Only whole pages count: what follows in the last
/// one must stay writable.
fn relro_length(headers: &[libc::Elf64_Phdr], base: usize, at: usize, page: usize) -> usize {
    let sealed = headers.iter().find(|header| header.p_type == libc::PT_GNU_RELRO);
    sealed.map_or(0, |header| {
        let begin = base.wrapping_add(address(header.p_vaddr));
        let end = (begin + address(header.p_memsz)) & !(page - 1);
        if begin & !(page - 1) == at { end.saturating_sub(at) } else { 0 }
    })
}

impl From<Mapping> for Piece {
    fn from(mapping: Mapping) -> Piece {
        let Mapping { begin, end, protection, offset, .. } = mapping;
        let writable = protection & libc::PROT_WRITE != 0;
        Piece { at: begin, length: end - begin, offset, writable, protection, read_only: 0 }
    }
}

impl Piece {
    fn contains(&self, mapping: &Mapping) -> bool {
        (self.at..self.at + self.length).contains(&mapping.begin)
    }

    /// Maps the piece from `file`, in its place and with its present content.
    fn map_again(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        if self.writable { self.move_in(file) } else { self.lay_over(file) }
    }

    /// Maps a piece that is never written, in its place. One call replaces the bytes by the same bytes.
    fn lay_over(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        self.map(file, self.at as *mut c_void, libc::MAP_FIXED).map(drop)
    }

    /// Maps a piece that is written at another address, copies its present content there, and moves it into its place in one
    /// call. Pages that do not differ from the file stay shared with other processes that run it.
    fn move_in(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        let beside = self.map(file, ptr::null_mut(), 0)?;
        let page = page_size();
        for offset in (0..self.length).step_by(page) {
            // SAFETY: both are `length` bytes long and do not overlap, and no other thread runs in this program.
            unsafe {
                let (ours, theirs) = ((self.at + offset) as *const u8, beside.cast::<u8>().add(offset));
                if std::slice::from_raw_parts(ours, page) != std::slice::from_raw_parts(theirs, page) {
                    ptr::copy_nonoverlapping(ours, theirs, page);
                }
            }
        }
        // SAFETY: what is replaced is the piece itself, by the same bytes; nothing has written to it since the copy.
        let moved = unsafe {
            let how = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
            libc::mremap(beside, self.length, self.length, how, self.at as *mut c_void)
        };
        if let Err(errno) = mapped(moved) {
            // SAFETY: our own mapping, which nothing leads to.
            unsafe { libc::munmap(beside, self.length) };
            return Err(errno);
        }
        if self.read_only > 0 {
            // SAFETY: this part of the program was read-only before, so nothing writes to it.
            let done =
                unsafe { libc::mprotect(self.at as *mut c_void, self.read_only.min(self.length), libc::PROT_READ) };
            super::checked(done.into())?;
        }
        Ok(())
    }

    fn map(&self, file: BorrowedFd<'_>, at: *mut c_void, how: c_int) -> Result<*mut c_void, Errno> {
        // SAFETY: without MAP_FIXED the place is free; with it, it is this very piece of the program, whose bytes `file` holds.
        let address = unsafe {
            libc::mmap(at, self.length, self.protection, libc::MAP_PRIVATE | how, file.as_raw_fd(), self.offset)
        };
        mapped(address)
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{WaitId, WaitIdOptions, waitid};

    use super::*;
    use crate::sys::clone::{clone, exit};
    use crate::sys::seccomp::{failing, load};

    fn header(kind: u32, flags: u32, offset: u64, address: u64, in_file: u64, in_memory: u64) -> libc::Elf64_Phdr {
        libc::Elf64_Phdr {
            p_type: kind,
            p_flags: flags,
            p_offset: offset,
            p_vaddr: address,
            p_paddr: address,
            p_filesz: in_file,
            p_memsz: in_memory,
            p_align: 0x1000,
        }
    }

    #[test]
    fn pieces_are_whole_pages_as_far_as_the_file_has_them() {
        let headers = [
            header(libc::PT_LOAD, libc::PF_R, 0, 0x20_0000, 0x1e_bc, 0x1e_bc),
            header(libc::PT_LOAD, libc::PF_R | libc::PF_X, 0x1ec0, 0x20_2ec0, 0x1000, 0x1000),
            header(libc::PT_LOAD, libc::PF_R | libc::PF_W, 0x2ec0, 0x20_4ec0, 0x1300, 0x2300),
            header(libc::PT_LOAD, libc::PF_R | libc::PF_W, 0, 0x30_0000, 0, 0x1000),
            header(libc::PT_GNU_RELRO, libc::PF_R, 0x2ec0, 0x20_4ec0, 0x240, 0x240),
        ];
        let pieces = pieces_of(&headers, 0x1000_0000).unwrap();
        let piece = |n: usize| (pieces[n].at, pieces[n].length, pieces[n].offset, pieces[n].protection);
        assert_eq!(piece(0), (0x1020_0000, 0x2000, 0, libc::PROT_READ));
        assert_eq!(piece(1), (0x1020_2000, 0x2000, 0x1000, libc::PROT_READ | libc::PROT_EXEC));
        assert_eq!(piece(2), (0x1020_4000, 0x3000, 0x2000, libc::PROT_READ | libc::PROT_WRITE));
        // memory that does not come from the file is not a piece
        assert_eq!(pieces[3].length, 0);
        assert_eq!((pieces[1].read_only, pieces[2].read_only, pieces[2].writable), (0, 0x1000, true));
    }

    #[test]
    fn a_program_is_not_mapped_from_another_file() {
        let own = OwnProgram::of_now().unwrap();
        assert_eq!(own.must_be_from(open_own().unwrap().as_fd()), Ok(()));
        let file = |path: &str| std::fs::File::open(path).unwrap();
        for other in ["/bin/sh", "/dev/null"] {
            assert_eq!(own.must_be_from(file(other).as_fd()), Err(Errno::NOEXEC), "{other}");
        }
    }

    #[test]
    fn a_part_that_stays_writable_is_an_error() {
        let own = OwnProgram::of_now().unwrap();
        assert!(own.pieces.iter().any(|piece| piece.read_only > 0));
        let filter = failing(libc::SYS_mprotect, Errno::NOSPC);
        let mut file = Some(OwnFile(open_own().unwrap()));
        let (_, child) = clone(0, None, |alone| {
            let denied = rustix::thread::set_no_new_privs(true).and_then(|()| load(&filter, 0).map(drop));
            let mapped = file.take().map(|file| own.map_again_in_child(alone, &file));
            exit(if denied.is_ok() && mapped == Some(Err(Errno::NOSPC)) { 7 } else { 1 })
        })
        .unwrap();
        let ended = waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED).unwrap();
        assert_eq!(ended.unwrap().exit_status(), Some(7));
    }

    /// As a backtrace of the standard library does, for as long as the program runs.
    #[test]
    fn a_program_that_has_mapped_its_own_file_is_mapped_again() {
        let (own, file) = (OwnProgram::of_now().unwrap(), open_own().unwrap());
        let page = page_size();
        let read_only = Piece { length: page, protection: libc::PROT_READ, ..Piece::default() };
        let writable = Piece { protection: libc::PROT_READ | libc::PROT_WRITE, ..read_only };
        let mapped = [read_only, writable].map(|piece| piece.map(file.as_fd(), ptr::null_mut(), 0).unwrap());
        // SAFETY: the writable one is a page of ours.
        unsafe { mapped[1].cast::<u8>().write(7) };
        let mut copy = Some(OwnFile::sealed_copy().unwrap());
        let (_, child) = clone(0, None, |alone| {
            let done = copy.take().map(|copy| own.map_again_in_child(alone, &copy));
            // SAFETY: both pages are mapped, and no other thread is in this process.
            let [first, changed] = mapped.map(|at| unsafe { at.cast::<u8>().read() });
            let is_done = match done {
                Some(Ok(())) => is_sealed(),
                // Nothing else forbids it to an ordinary user.
                Some(Err(errno)) => errno == Errno::PERM && !rustix::process::geteuid().is_root(),
                None => false,
            };
            exit(if is_done && (first, changed) == (0x7f, 7) { 7 } else { 1 })
        })
        .unwrap();
        let ended = waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED).unwrap();
        for at in mapped {
            // SAFETY: our own page.
            unsafe { libc::munmap(at, page) };
        }
        assert_eq!(ended.unwrap().exit_status(), Some(7));
    }

    #[test]
    fn a_program_of_many_threads_is_not_changed() {
        // a test program has several threads
        let before = std::fs::read_to_string("/proc/self/maps").unwrap();
        let file = OwnFile(open_own().unwrap());
        std::thread::scope(|scope| {
            let (done, wait) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || wait.recv());
            assert_eq!(map_again_from(&file), Err(Errno::BUSY));
            drop(done);
        });
        let program = |maps: &str| maps.lines().take(3).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(program(&std::fs::read_to_string("/proc/self/maps").unwrap()), program(&before));
    }
}
