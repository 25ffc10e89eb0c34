//! Checks a directory of images without CRIU (criu(8)). The messages are those of CRIU's `images/*.proto`.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;

use super::image_file::{COMMON_MAGIC, ImageFault, MOST, decoded, messages_of};
use crate::wait;

/// The file that every directory of images has.
const INVENTORY: &str = "inventory.img";
const PROCESSES: &str = "pstree.img";
/// A link to the images of an earlier dump.
const PARENT: &str = "parent";
/// CRIU's log of the dump, if it was written here.
const LOG: &str = "dump.log";

const INVENTORY_MAGIC: u32 = 0x5831_3116;
const PROCESSES_MAGIC: u32 = 0x5027_3030;
const CORE_MAGIC: u32 = 0x5505_3847;
const MOUNTS_MAGIC: u32 = 0x5556_3928;
const PAGE_MAP_MAGIC: u32 = 0x5608_4025;
/// The newest form of images that is known (CRTOOLS_IMAGES_V1_1).
const NEWEST: u32 = 2;
/// The most directories that are parents of each other.
const MOST_PARENTS: usize = 256;

/// The contents of the images.
///
/// ```no_run
/// let (contents, faults) = libcontainer::Images::new("/images/box").check(None)?;
/// println!("{} processes, {} mounts", contents.processes, contents.mounts);
/// if contents.has_parent {
///     println!("the memory is complete only with an earlier dump");
/// }
/// # Ok::<(), libcontainer::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageContents {
    /// The version of CRIU in its log, if the log is there.
    pub criu: Option<String>,
    /// The processor, by the name of uname(2). None if it is not known.
    pub architecture: Option<&'static str>,
    /// How many processes there are.
    pub processes: usize,
    /// How many mounts there are.
    pub mounts: usize,
    /// The mounts of the host: their names, and their places in the container.
    pub external: Vec<(String, String)>,
    /// Whether the memory is complete only with an earlier dump.
    pub has_parent: bool,
    /// The security label of the first process: an AppArmor profile or an SELinux label.
    pub label: Option<String>,
}

/// `inventory_entry`.
#[derive(Clone, PartialEq, Message)]
struct Inventory {
    #[prost(uint32, required, tag = "1")]
    img_version: u32,
}

/// `pstree_entry`.
#[derive(Clone, PartialEq, Message)]
struct TreeEntry {
    #[prost(uint32, required, tag = "1")]
    pid: u32,
    #[prost(uint32, repeated, packed = "false", tag = "5")]
    threads: Vec<u32>,
}

/// `core_entry`.
#[derive(Clone, PartialEq, Message)]
struct Core {
    /// `march`.
    #[prost(int32, required, tag = "1")]
    mtype: i32,
    #[prost(message, optional, tag = "5")]
    thread_core: Option<ThreadCore>,
}

/// `thread_core_entry`.
#[derive(Clone, PartialEq, Message)]
struct ThreadCore {
    #[prost(message, optional, tag = "10")]
    creds: Option<CredsEntry>,
}

/// `creds_entry`.
#[derive(Clone, PartialEq, Message)]
struct CredsEntry {
    #[prost(string, optional, tag = "15")]
    lsm_profile: Option<String>,
}

/// `mnt_entry`.
#[derive(Clone, PartialEq, Message)]
struct MountImage {
    #[prost(string, required, tag = "7")]
    mountpoint: String,
    #[prost(string, optional, tag = "18")]
    ext_key: Option<String>,
}

/// `pagemap_head`.
#[derive(Clone, PartialEq, Message)]
struct PageMap {
    #[prost(uint32, required, tag = "1")]
    pages_id: u32,
}

/// `pagemap_entry`.
#[derive(Clone, PartialEq, Message)]
struct Pages {
    #[prost(uint32, optional, tag = "2")]
    compat_nr_pages: Option<u32>,
    #[prost(bool, optional, tag = "3")]
    in_parent: Option<bool>,
    #[prost(uint32, optional, tag = "4")]
    flags: Option<u32>,
    #[prost(uint64, optional, tag = "5")]
    nr_pages: Option<u64>,
}

const PE_PARENT: u32 = 1;
const PE_PRESENT: u32 = 4;

/// `march` of core.proto, by the names of uname(2).
const ARCHITECTURES: [(i32, &str); 8] = [
    (1, "x86_64"),
    (2, "arm"),
    (3, "aarch64"),
    (4, "ppc64"),
    (5, "s390x"),
    (6, "mips"),
    (7, "loongarch64"),
    (8, "riscv64"),
];

/// The processor that this program runs on, by one of those names.
pub fn own_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86" => "x86_64",
        "powerpc64" => "ppc64",
        "mips64" => "mips",
        other => other,
    }
}

/// Reads the images in `directory`, but not their memory. With a fault, a restore would fail.
pub fn contents(directory: &Path) -> (ImageContents, Vec<ImageFault>) {
    let mut reading = ImageReading { directory, faults: Vec::new(), found: ImageContents::default() };
    if reading.inventory() {
        reading.found.criu = version_in_log(directory);
        reading.processes();
        reading.all_mounts();
        reading.parents();
    }
    (reading.found, reading.faults)
}

/// The security label of the first process in the images.
pub fn label(directory: &Path) -> Option<String> {
    let mut reading = ImageReading { directory, faults: Vec::new(), found: ImageContents::default() };
    reading.processes();
    reading.found.label
}

/// The faults of the memory in the images and in those of their parents: missing files, and files that are too short. CRIU would
/// read such a file again and again, without end. The directory can have files of an earlier checkpoint, so only those of the
/// processes in these images count.
pub fn memory_faults(directory: &Path) -> Vec<ImageFault> {
    let (mut faults, mut below, mut seen) = (Vec::new(), PathBuf::new(), HashSet::new());
    let mut own = ImageReading { directory, faults: Vec::new(), found: ImageContents::default() };
    let processes = own.decoded::<TreeEntry>(PROCESSES, &[COMMON_MAGIC, PROCESSES_MAGIC]).unwrap_or_default();
    while let Ok(at) = directory.join(&below).canonicalize()
        && seen.insert(at.clone())
    {
        let mut reading = ImageReading { directory: &at, faults: Vec::new(), found: ImageContents::default() };
        for name in processes.iter().map(|process| format!("pagemap-{}.img", process.pid)) {
            if at.join(&name).exists() {
                reading.page_map(&name);
            }
        }
        let named = |fault: ImageFault| ImageFault { file: below.join(fault.file).display().to_string(), ..fault };
        faults.extend(reading.faults.into_iter().map(named));
        below.push(PARENT);
    }
    faults
}

struct ImageReading<'d> {
    directory: &'d Path,
    faults: Vec<ImageFault>,
    found: ImageContents,
}

impl ImageReading<'_> {
    /// Notes a fault.
    fn wrong(&mut self, file: &str, problem: impl Into<String>) {
        self.faults.push(ImageFault::new(file, problem));
    }

    /// The messages in the file. Notes a fault, and returns None, if it cannot be read.
    fn messages(&mut self, name: &str, magic: &[u32]) -> Option<Vec<Vec<u8>>> {
        messages_of(self.directory, name, magic).map_err(|fault| self.faults.push(fault)).ok()
    }

    fn decoded<M: Message + Default>(&mut self, name: &str, magic: &[u32]) -> Option<Vec<M>> {
        decoded(self.directory, name, magic).map_err(|fault| self.faults.push(fault)).ok()
    }

    /// Reads the inventory. Returns false if it does not exist.
    fn inventory(&mut self) -> bool {
        if !self.directory.join(INVENTORY).exists() {
            // podman's archive has the images in a directory beside the config
            let below = self.directory.join("checkpoint");
            let more = if below.join(INVENTORY).exists() {
                format!(" (the directory {} is one)", below.display())
            } else {
                String::new()
            };
            self.wrong(INVENTORY, format!("does not exist: it is not a checkpoint{more}"));
            return false;
        }
        let version = self.decoded::<Inventory>(INVENTORY, &[INVENTORY_MAGIC]);
        if let Some(Inventory { img_version }) = version.and_then(|all| all.into_iter().next())
            && img_version > NEWEST
        {
            self.wrong(INVENTORY, format!("a newer criu has made it (form {img_version} of images)"));
        }
        true
    }

    fn processes(&mut self) {
        if !self.directory.join(PROCESSES).exists() {
            let why = "does not exist: a pre-dump has only memory, and is the parent of a checkpoint";
            return self.wrong(PROCESSES, why);
        }
        let Some(all) = self.decoded::<TreeEntry>(PROCESSES, &[COMMON_MAGIC, PROCESSES_MAGIC]) else { return };
        self.found.processes = all.len();
        let Some(first) = all.first() else { return self.wrong(PROCESSES, "it has no process") };
        let name = format!("core-{}.img", first.pid);
        let core = self.decoded::<Core>(&name, &[COMMON_MAGIC, CORE_MAGIC]).and_then(|all| all.into_iter().next());
        if let Some(Core { mtype, thread_core }) = core {
            let label = thread_core.and_then(|core| core.creds).and_then(|creds| creds.lsm_profile);
            self.found.label = label.filter(|label| !label.is_empty());
            self.found.architecture = ARCHITECTURES.iter().find(|(number, _)| *number == mtype).map(|(_, name)| *name);
            let (theirs, ours) = (self.found.architecture.unwrap_or("unknown"), own_architecture());
            if theirs != ours {
                self.wrong(&name, format!("the images are of another architecture: {theirs}; this machine is {ours}"));
            }
        }
        // The only thread of a zombie has a number that criu has not set.
        let threads = all.iter().filter(|process| process.threads.len() > 1).flat_map(|process| &process.threads);
        for thread in all.iter().map(|process| &process.pid).chain(threads).collect::<HashSet<_>>() {
            let name = format!("core-{thread}.img");
            if *thread != first.pid && !self.directory.join(&name).exists() {
                self.wrong(&name, "does not exist");
            }
        }
    }

    /// The files whose names begin with this, in order.
    fn files(&self, begin: &str) -> Vec<String> {
        let entries = fs::read_dir(self.directory).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<_> = names.filter(|name| name.starts_with(begin) && name.ends_with(".img")).collect();
        names.sort();
        names
    }

    fn all_mounts(&mut self) {
        for name in self.files("mountpoints-") {
            let Some(all) = self.decoded::<MountImage>(&name, &[COMMON_MAGIC, MOUNTS_MAGIC]) else { continue };
            self.found.mounts += all.len();
            let external = all.into_iter().filter_map(|mount| Some((mount.ext_key?, mount.mountpoint)));
            // a name with a colon is CRIU's own
            self.found.external.extend(external.filter(|(key, _)| key.starts_with('/')));
        }
        self.found.external.sort();
    }

    fn parents(&mut self) {
        let mut directory = self.directory.to_path_buf();
        for _ in 0..MOST_PARENTS {
            let link = directory.join(PARENT);
            let Ok(target) = fs::read_link(&link) else { return };
            self.found.has_parent = true;
            let Ok(next) = link.canonicalize() else {
                let own = directory.strip_prefix(self.directory).is_ok();
                let of = if own { String::new() } else { format!(" of {}", directory.display()) };
                let why = format!("{}{of} does not exist: it has the rest of the memory", target.display());
                return self.wrong(PARENT, why);
            };
            directory = next;
        }
        self.wrong(PARENT, "leads to itself");
    }

    fn page_map(&mut self, name: &str) {
        let Some(messages) = self.messages(name, &[COMMON_MAGIC, PAGE_MAP_MAGIC]) else { return };
        let Some((head, rest)) = messages.split_first() else { return self.wrong(name, "it is cut off") };
        let head = PageMap::decode(head.as_slice());
        let rest: Result<Vec<Pages>, _> = rest.iter().map(|bytes| Pages::decode(bytes.as_slice())).collect();
        let (Ok(head), Ok(rest)) = (head, rest) else { return self.wrong(name, "it is not an image of criu") };
        let count = |pages: &Pages| pages.nr_pages.or(pages.compat_nr_pages.map(u64::from)).unwrap_or(0);
        let in_parent =
            |pages: &Pages| pages.flags.map_or(pages.in_parent.unwrap_or(false), |flags| flags & PE_PARENT != 0);
        let is_here = |pages: &&Pages| pages.flags.map_or(!in_parent(pages), |flags| flags & PE_PRESENT != 0);
        if rest.iter().any(in_parent) && fs::symlink_metadata(self.directory.join(PARENT)).is_err() {
            self.wrong(PARENT, format!("does not exist: {name} has pages of an earlier dump"));
        }
        let needed = rest.iter().filter(is_here).map(count).fold(0u64, u64::saturating_add);
        let needed = needed.saturating_mul(rustix::param::page_size() as u64);
        let pages = format!("pages-{}.img", head.pages_id);
        let there = fs::metadata(self.directory.join(&pages)).map(|file| file.len());
        match there {
            Ok(there) if there < needed => {
                self.wrong(&pages, format!("it is cut off: it has {there} bytes, and {name} needs {needed}"));
            }
            Err(_) if needed > 0 => self.wrong(&pages, "does not exist"),
            _ => {}
        }
    }
}

/// The version of CRIU in its log: `Version: 4.1.1 (gitid 0)` near the beginning.
fn version_in_log(directory: &Path) -> Option<String> {
    let text = wait::contents_below(directory, Path::new(LOG), MOST).ok()?;
    let text = String::from_utf8_lossy(text.get(..text.len().min(4096))?).into_owned();
    let (_, rest) = text.split_once("Version: ")?;
    let word = rest.split_whitespace().next()?;
    word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.').then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(magic: &[u32], messages: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes: Vec<u8> = magic.iter().flat_map(|number| number.to_le_bytes()).collect();
        for message in messages {
            bytes.extend(u32::try_from(message.len()).unwrap().to_le_bytes());
            bytes.extend(message);
        }
        bytes
    }

    fn mount(mountpoint: &str, key: Option<&str>) -> Vec<u8> {
        MountImage { mountpoint: mountpoint.to_owned(), ext_key: key.map(str::to_owned) }.encode_to_vec()
    }

    /// Images of two processes, of which the first has two threads.
    fn complete() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: Vec<u8>| fs::write(directory.path().join(name), bytes).unwrap();
        let machine = ARCHITECTURES.iter().find(|(_, name)| *name == own_architecture()).unwrap().0;
        let creds = CredsEntry { lsm_profile: Some("box_t".to_owned()) };
        let core = || {
            image(
                &[COMMON_MAGIC, CORE_MAGIC],
                &[Core { mtype: machine, thread_core: Some(ThreadCore { creds: Some(creds.clone()) }) }
                    .encode_to_vec()],
            )
        };
        write(INVENTORY, image(&[INVENTORY_MAGIC], &[Inventory { img_version: 2 }.encode_to_vec()]));
        let process = |pid: u32, threads: &[u32]| TreeEntry { pid, threads: threads.to_vec() }.encode_to_vec();
        write(PROCESSES, image(&[COMMON_MAGIC, PROCESSES_MAGIC], &[process(1, &[1, 5]), process(9, &[9])]));
        for name in ["core-1.img", "core-5.img", "core-9.img"] {
            write(name, core());
        }
        let mounts = [mount("/", None), mount("/data", Some("/data")), mount("/x", Some("CRIU:ROOT"))];
        write("mountpoints-12.img", image(&[COMMON_MAGIC, MOUNTS_MAGIC], &mounts));
        let pages = |count: u64, flags: u32| {
            let pages = Pages { nr_pages: Some(count), flags: Some(flags), ..Pages::default() };
            pages.encode_to_vec()
        };
        // the lazy pages are not in the file
        let map = [PageMap { pages_id: 3 }.encode_to_vec(), pages(2, PE_PRESENT), pages(7, 2)];
        write("pagemap-1.img", image(&[COMMON_MAGIC, PAGE_MAP_MAGIC], &map));
        write("pages-3.img", vec![0; 2 * rustix::param::page_size()]);
        write(LOG, b"(00.0) CRIU run id = 1\n(00.1) Version: 4.1.1 (gitid 0)\n".to_vec());
        directory
    }

    fn all_faults(directory: &Path) -> Vec<String> {
        let faults = contents(directory).1.into_iter().chain(memory_faults(directory));
        faults.map(|fault| format!("{}: {}", fault.file, fault.problem)).collect()
    }

    #[test]
    fn complete_images_have_no_fault() {
        let directory = complete();
        assert_eq!(all_faults(directory.path()), Vec::<String>::new());
        let expected = ImageContents {
            criu: Some("4.1.1".to_owned()),
            architecture: Some(own_architecture()),
            processes: 2,
            mounts: 3,
            external: vec![("/data".to_owned(), "/data".to_owned())],
            has_parent: false,
            label: Some("box_t".to_owned()),
        };
        assert_eq!(contents(directory.path()).0, expected);
    }

    #[test]
    fn the_memory_of_an_earlier_checkpoint_is_no_fault() {
        let directory = complete();
        let at = |name: &str| directory.path().join(name);
        fs::copy(at("pagemap-1.img"), at("pagemap-7.img")).unwrap();
        fs::copy(at("pagemap-1.img"), at("pagemap-9.img")).unwrap();
        assert_eq!(memory_faults(directory.path()), Vec::new());
        // that of process 9, not of 7, which is not in the images
        fs::write(at("pages-3.img"), "x").unwrap();
        let faults = memory_faults(directory.path());
        assert!(faults.iter().all(|fault| !fault.problem.contains("pagemap-7")), "{faults:?}");
        assert_eq!(faults.len(), 2);
    }

    #[test]
    fn the_memory_of_a_parent_is_needed_too() {
        let (directory, parent) = (complete(), complete());
        std::os::unix::fs::symlink(parent.path(), directory.path().join(PARENT)).unwrap();
        // a parent of itself is the fault of `contents`
        std::os::unix::fs::symlink(".", parent.path().join(PARENT)).unwrap();
        assert_eq!(memory_faults(directory.path()), Vec::new());
        fs::write(parent.path().join("pages-3.img"), "x").unwrap();
        let faults = memory_faults(directory.path());
        assert_eq!(faults.iter().map(|fault| fault.file.as_str()).collect::<Vec<_>>(), ["parent/pages-3.img"]);
    }

    #[test]
    fn each_fault_names_its_file() {
        type Damage<'d> = &'d dyn Fn(&Path);
        let core = |at: &Path, mtype: i32| {
            let core = Core { mtype, thread_core: None }.encode_to_vec();
            fs::write(at.join("core-1.img"), image(&[COMMON_MAGIC, CORE_MAGIC], &[core])).unwrap();
        };
        let cases: [(Damage<'_>, &str); 14] = [
            (
                &|at| fs::remove_file(at.join(INVENTORY)).unwrap(),
                "inventory.img: does not exist: it is not a checkpoint",
            ),
            (
                &|at| fs::write(at.join(INVENTORY), "x").unwrap(),
                "inventory.img: it is cut off, or is not an image of criu",
            ),
            (
                &|at| {
                    let newer = Inventory { img_version: 3 }.encode_to_vec();
                    fs::write(at.join(INVENTORY), image(&[INVENTORY_MAGIC], &[newer])).unwrap();
                },
                "inventory.img: a newer criu has made it (form 3 of images)",
            ),
            (
                &|at| fs::remove_file(at.join(PROCESSES)).unwrap(),
                "pstree.img: does not exist: a pre-dump has only memory, and is the parent of a checkpoint",
            ),
            (&|at| fs::remove_file(at.join("core-1.img")).unwrap(), "core-1.img: does not exist"),
            (&|at| fs::remove_file(at.join("core-5.img")).unwrap(), "core-5.img: does not exist"),
            (&|at| core(at, 5), "core-1.img: the images are of another architecture: s390x; this machine is "),
            (&|at| core(at, 99), "core-1.img: the images are of another architecture: unknown; this machine is "),
            (&|at| fs::remove_file(at.join("pages-3.img")).unwrap(), "pages-3.img: does not exist"),
            (
                &|at| fs::write(at.join("pages-3.img"), "x").unwrap(),
                "pages-3.img: it is cut off: it has 1 bytes, and pagemap-1.img needs ",
            ),
            (
                &|at| fs::write(at.join("pagemap-1.img"), "x").unwrap(),
                "pagemap-1.img: it is cut off, or is not an image of criu",
            ),
            (
                &|at| {
                    let pages = Pages { nr_pages: Some(1), flags: Some(PE_PARENT), ..Pages::default() }.encode_to_vec();
                    let map = image(&[COMMON_MAGIC, PAGE_MAP_MAGIC], &[PageMap { pages_id: 3 }.encode_to_vec(), pages]);
                    fs::write(at.join("pagemap-1.img"), map).unwrap();
                },
                "parent: does not exist: pagemap-1.img has pages of an earlier dump",
            ),
            (
                &|at| std::os::unix::fs::symlink("../gone", at.join(PARENT)).unwrap(),
                "parent: ../gone does not exist: it has the rest of the memory",
            ),
            (&|at| std::os::unix::fs::symlink(".", at.join(PARENT)).unwrap(), "parent: leads to itself"),
        ];
        for (damage, expected) in cases {
            let directory = complete();
            damage(directory.path());
            let found = all_faults(directory.path());
            assert!(found.len() == 1 && found[0].starts_with(expected), "{expected}: {found:?}");
        }
    }

    #[test]
    fn the_directory_of_an_archive_is_named() {
        let archive = tempfile::tempdir().unwrap();
        fs::create_dir(archive.path().join("checkpoint")).unwrap();
        fs::write(archive.path().join("checkpoint").join(INVENTORY), "").unwrap();
        let found = all_faults(archive.path());
        assert!(found.len() == 1 && found[0].ends_with("/checkpoint is one)"), "{found:?}");
    }
}
