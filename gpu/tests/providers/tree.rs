//! Hosts that are only files below a directory, and edits as lines of text.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{CWD, FileType, Mode, chmod, makedev, mknodat};
use teu_gpu::{Edits, LibraryDirs, Request, Roots};

/// The version of the driver on most of these hosts.
pub(crate) const VERSION: &str = "999.88.77";

/// /proc/devices where all of NVIDIA's modules are loaded.
pub(crate) const DEVICES: &str = "Character devices:\n  1 mem\n  5 /dev/tty\n195 nvidia\n\
    195 nvidiactl\n226 drm\n510 nvidia-uvm\n511 nvidia-caps\n\
    512 nvidia-caps-imex-channels\n\nBlock devices:\n  8 sd\n195 nvidia-uvm\n";

const PARAMS: &str = "ResmanDebugLevel: 4294967295\nModifyDeviceFiles: 1\nDeviceFileUID: 0\n\
    DeviceFileGID: 0\nDeviceFileMode: 438\n";

/// A host, removed with the value.
pub(crate) struct Tree(PathBuf);

impl Drop for Tree {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("remove the tree");
    }
}

impl Tree {
    /// A host with nothing.
    pub(crate) fn new() -> Tree {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("teu-gpu-{}-{number}", std::process::id());
            let root = std::env::temp_dir().join(name);
            match fs::create_dir(&root) {
                Ok(()) => return Tree(root.canonicalize().expect("the root")),
                // An earlier process with this pid was killed and left its directory.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => panic!("mkdir {root:?}: {error}"),
            }
        }
    }

    /// A host with the kernel module of `version`, but neither GPUs nor files of the
    /// driver.
    pub(crate) fn with_module(version: &str) -> Tree {
        let tree = Tree::new();
        let text = format!(
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build\n\
             GCC version:  gcc version 15.3.0 (GCC)\n"
        );
        tree.file("proc/driver/nvidia/version", &text);
        tree.file("proc/driver/nvidia/params", PARAMS);
        tree.file("proc/driver/nvidia/registry", "Binary: \"\"\n");
        tree.file("proc/devices", DEVICES);
        tree
    }

    /// One with two GPUs and what is needed of Ubuntu's packages to compute.
    pub(crate) fn with_two_gpus() -> Tree {
        let tree = Tree::with_module(VERSION);
        tree.gpu("0000:06:00.0", 0, UUIDS[0]);
        tree.gpu("0000:0a:00.0", 1, UUIDS[1]);
        tree.libraries("usr/lib/x86_64-linux-gnu", VERSION, &[("libcuda", "1")]);
        tree
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::below(&self.0)
    }

    fn make_parents(&self, path: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        path
    }

    pub(crate) fn file(&self, path: &str, text: &str) {
        self.bytes(path, text.as_bytes());
    }

    pub(crate) fn bytes(&self, path: &str, bytes: &[u8]) {
        fs::write(self.make_parents(path), bytes).expect("write");
    }

    pub(crate) fn link(&self, path: &str, target: &str) {
        symlink(target, self.make_parents(path)).expect("symlink");
    }

    /// A library of this machine's architecture: as much of it as is looked at.
    pub(crate) fn library(&self, path: &str) {
        let machine = if cfg!(target_arch = "aarch64") {
            183
        } else {
            62
        };
        self.elf(path, machine);
    }

    pub(crate) fn elf(&self, path: &str, machine: u8) {
        let mut header = b"\x7fELF".to_vec();
        header.resize(18, 0);
        self.bytes(path, &[&header[..], &[machine, 0], &[0; 44]].concat());
    }

    /// Libraries of a version, each with the links that packages bring.
    pub(crate) fn libraries(&self, directory: &str, version: &str, names: &[(&str, &str)]) {
        for (stem, number) in names {
            let file = format!("{stem}.so.{version}");
            self.library(&format!("{directory}/{file}"));
            self.link(&format!("{directory}/{stem}.so.{number}"), &file);
        }
    }

    pub(crate) fn gpu(&self, bus: &str, minor: u32, uuid: &str) {
        let text = format!(
            "Model: \t\t Tesla\nIRQ:   \t\t 38\nGPU UUID: \t {uuid}\nBus Type: \t PCIe\n\
             Bus Location: \t {bus}\nDevice Minor: \t {minor}\nGPU Excluded:\t No\n"
        );
        let directory = format!("proc/driver/nvidia/gpus/{bus}");
        self.file(&format!("{directory}/information"), &text);
        self.file(&format!("{directory}/power"), "Runtime D3 status: ?\n");
    }

    /// An instance of a GPU, whose two rights have these minor numbers.
    pub(crate) fn instance(&self, gpu: u32, numbers: (u32, u32), minors: (u32, u32)) {
        let mig = format!(
            "proc/driver/nvidia/capabilities/gpu{gpu}/mig/gi{}",
            numbers.0
        );
        for (path, minor) in [
            (format!("{mig}/access"), minors.0),
            (format!("{mig}/ci{}/access", numbers.1), minors.1),
        ] {
            let text = format!("DeviceFileMinor: {minor}\nDeviceFileMode: 292\n");
            self.file(&path, &text);
        }
    }

    /// A graphics card: its nodes by name and minor number.
    pub(crate) fn card(&self, bus: &str, ids: Option<(&str, &str)>, nodes: &[(&str, u32)]) {
        let device = format!("sys/devices/pci0/{bus}");
        if let Some((vendor, id)) = ids {
            self.file(&format!("{device}/vendor"), &format!("{vendor}\n"));
            self.file(&format!("{device}/device"), &format!("{id}\n"));
        }
        for (name, minor) in nodes {
            let path = format!("{device}/drm/{name}");
            self.file(&format!("{path}/dev"), &format!("226:{minor}\n"));
            self.link(&format!("{path}/device"), &format!("../../../{bus}"));
            let target = format!("../../devices/pci0/{bus}/drm/{name}");
            self.link(&format!("sys/class/drm/{name}"), &target);
        }
    }

    /// A node of /dev, if this user may make one.
    pub(crate) fn node(&self, path: &str, kind: FileType, number: (u32, u32)) -> bool {
        let path = self.make_parents(path);
        let made = mknodat(
            CWD,
            &path,
            kind,
            Mode::from_raw_mode(0o660),
            makedev(number.0, number.1),
        );
        if made.is_err() {
            eprintln!("[skipped] needs root, to make device nodes");
        }
        if made.is_ok() {
            // Whatever the umask is.
            chmod(&path, Mode::from_raw_mode(0o660)).expect("chmod");
        }
        made.is_ok()
    }

    /// The cache of the dynamic linker, with these names and paths.
    pub(crate) fn cache(&self, libraries: &[(&str, &str)]) {
        let number = |number: usize| u32::try_from(number).expect("a number").to_ne_bytes();
        let (mut table, mut texts) = (Vec::new(), Vec::new());
        for (name, path) in libraries {
            table.extend(number(0x0303));
            for text in [name, path] {
                table.extend(number(48 + 24 * libraries.len() + texts.len()));
                texts.extend(text.as_bytes());
                texts.push(0);
            }
            table.extend([0; 12]);
        }
        let lengths = [number(libraries.len()), number(texts.len())].concat();
        let magic = b"glibc-ld.so.cache1.1";
        self.bytes(
            "etc/ld.so.cache",
            &[magic, &lengths[..], &[0; 20], &table, &texts].concat(),
        );
    }

    /// What the words of --gpus bring, as lines.
    pub(crate) fn asked(&self, words: &str) -> Result<Vec<String>, String> {
        let request: Request = words.parse()?;
        let edits = teu_gpu::edits(&self.roots(), &request, &LibraryDirs::debian());
        let edits = edits.map_err(|err| teu_errno::line(&err))?;
        Ok(self.lines(&edits))
    }

    #[track_caller]
    pub(crate) fn refused(&self, words: &str) -> String {
        self.asked(words).expect_err(words)
    }

    /// Edits as lines: what is on the host without the root, so that it can be
    /// compared.
    pub(crate) fn lines(&self, edits: &Edits) -> Vec<String> {
        let here = |path: &Path| match path.strip_prefix(&self.0) {
            Ok(path) => format!("/{}", path.display()),
            Err(_) => format!("outside: {}", path.display()),
        };
        let mut lines: Vec<String> = Vec::new();
        for node in &edits.nodes {
            let device = &node.device;
            let access = node.rule.as_ref().and_then(|rule| rule.access().clone());
            lines.push(format!(
                "node {} {}:{} {:o} {}",
                device.path().display(),
                device.major(),
                device.minor(),
                device.file_mode().unwrap_or_default(),
                access.unwrap_or_default()
            ));
        }
        for mount in &edits.files {
            let source = mount.source().as_deref().unwrap_or(Path::new(""));
            let place = mount.destination().display();
            lines.push(format!("bind {} {place}", here(source)));
        }
        for link in &edits.links {
            lines.push(format!(
                "link {} {}",
                link.path.display(),
                link.target.display()
            ));
        }
        for cover in &edits.covers {
            for path in cover.files.keys() {
                lines.push(format!("text {}", cover.path.join(path).display()));
            }
        }
        lines.extend(edits.env.iter().map(|variable| format!("env {variable}")));
        let gids = edits.additional_gids.iter();
        lines.extend(gids.map(|gid| format!("gid {gid}")));
        lines
    }
}

/// Those of the two GPUs of `with_two_gpus`.
pub(crate) const UUIDS: [&str; 2] = [
    "GPU-edfee158-11c1-52b8-0517-92f30e7fac88",
    "GPU-00000000-11c1-52b8-0517-92f30e7fac88",
];

/// The lines that begin with a word, without it.
pub(crate) fn of(lines: &[String], word: &str) -> Vec<String> {
    let with = lines.iter().filter_map(|line| line.strip_prefix(word));
    with.map(|rest| rest.trim_start().to_owned()).collect()
}

/// The names of the files that are bound into a directory.
pub(crate) fn bound_into(lines: &[String], directory: &str) -> Vec<String> {
    let places = lines.iter().filter_map(|line| {
        let (_, place) = line.strip_prefix("bind ")?.split_once(' ')?;
        let name = place.strip_prefix(directory)?.strip_prefix('/')?;
        (!name.contains('/')).then(|| name.to_owned())
    });
    let mut names: Vec<String> = places.collect();
    names.sort();
    names
}
