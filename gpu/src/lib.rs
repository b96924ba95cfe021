//! Finds what a container needs to use GPUs and other devices, and returns it as edits of the
//! container's specification.
//!
//! GPUs are found on the host: [`gpus`] lists them, and [`edits`] or a [`Finder`] returns the
//! edits for a [`Request`]. Other devices are described by files of the Container Device
//! Interface: [`cdi`] reads them.
//!
//! The crate only reads files and looks at device nodes: it changes nothing, loads no library
//! and starts no program. Who may request a device, and which CDI files are trusted, is the
//! caller's decision.
//!
//! # Example
//!
//! ```no_run
//! use teu_gpu::{LibraryDirs, Request, Roots, Vendor};
//!
//! let roots = Roots::below("/".as_ref());
//! let request = Request::named(Some(Vendor::Nvidia), &["0"]);
//! let edits = teu_gpu::edits(&roots, &request, &LibraryDirs::debian())?;
//! println!("{} files of the driver are mounted", edits.files.len());
//! # Ok::<(), teu_gpu::Error>(())
//! ```

#![warn(missing_docs, clippy::missing_errors_doc)]

#[expect(
    missing_docs,
    reason = "fields have the names of the CDI specification"
)]
pub mod cdi;
mod drm;
mod edits;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod generate;
mod gpu;
mod known_hooks;
mod ld_cache;
mod nvidia;
mod roots;

use std::path::PathBuf;

pub use error::{Error, Result};
pub use generate::generate;
pub use gpu::{DrmNode, Gpu, Instance};
pub use known_hooks::{is_known_hook, take_known_hooks};
pub use roots::Roots;
pub use teu_gpu_types::{
    Capabilities, Content, Cover, Edits, Link, Moment, Node, Request, Vendor, Which,
};

use error::refused;
use gpu::{Selected, select};
use nvidia::{Module, wsl};

/// Directories in which the container's dynamic linker finds libraries without configuration.
#[derive(Debug, Clone)]
pub struct LibraryDirs {
    /// For libraries of the machine's own architecture.
    pub native: PathBuf,
    /// For 32-bit libraries.
    pub compat32: PathBuf,
}

impl LibraryDirs {
    /// Returns the directories of Debian and of distributions derived from it.
    #[must_use]
    pub fn debian() -> LibraryDirs {
        LibraryDirs {
            native: format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH).into(),
            compat32: "/usr/lib/i386-linux-gnu".into(),
        }
    }

    /// Returns the directories of most other distributions.
    #[must_use]
    pub fn other() -> LibraryDirs {
        LibraryDirs {
            native: "/usr/lib64".into(),
            compat32: "/usr/lib".into(),
        }
    }
}

/// The GPUs of one vendor, and the source of their edits.
#[derive(Debug)]
enum Provider<'a> {
    Nvidia(Module<'a>),
    Wsl(&'a Roots, Vec<Gpu>),
    Drm(&'a Roots, Vec<Gpu>),
}

impl<'a> Provider<'a> {
    /// Finds the provider of a vendor, if the machine has the vendor's GPUs.
    fn of(roots: &'a Roots, vendor: Vendor) -> Result<Option<Provider<'a>>> {
        if vendor == Vendor::Nvidia {
            if let Some(module) = Module::find(roots)? {
                return Ok(Some(Provider::Nvidia(module)));
            }
            let gpus = wsl::gpus(roots)?;
            return Ok((!gpus.is_empty()).then_some(Provider::Wsl(roots, gpus)));
        }
        let gpus = drm::gpus(roots, vendor)?;
        Ok((!gpus.is_empty()).then_some(Provider::Drm(roots, gpus)))
    }

    /// Finds the provider for a request. A request without a vendor does not select
    /// [`Vendor::Drm`], which may be the console of a server.
    fn for_request(roots: &'a Roots, request: &Request) -> Result<Provider<'a>> {
        let vendors = match request.vendor {
            Some(vendor) => vec![vendor],
            None => vec![Vendor::Nvidia, Vendor::Amd, Vendor::Intel],
        };
        for vendor in &vendors {
            if let Some(provider) = Provider::of(roots, *vendor)? {
                return Ok(provider);
            }
        }
        Err(match request.vendor {
            None => {
                refused!("there is no GPU of NVIDIA, AMD or Intel, or its driver is not loaded")
            }
            Some(Vendor::Nvidia) => refused!(
                "NVIDIA's driver is not loaded (modprobe nvidia): there is no \
                 /proc/driver/nvidia/version"
            ),
            Some(vendor) => refused!("there is no GPU for the driver {:?}", vendor.word()),
        })
    }

    fn gpus(&self) -> &[Gpu] {
        match self {
            Provider::Nvidia(module) => &module.gpus,
            Provider::Wsl(_, gpus) | Provider::Drm(_, gpus) => gpus,
        }
    }

    /// Returns the edits that all GPUs have in common.
    fn common(&self, request: &Request, dirs: &LibraryDirs) -> Result<Edits> {
        match self {
            Provider::Nvidia(module) => module.common(request, dirs),
            Provider::Wsl(roots, _) => wsl::common(roots, request.capabilities(), dirs),
            Provider::Drm(roots, gpus) => drm::common(roots, gpus),
        }
    }

    /// Returns the edits of one GPU.
    fn of_gpu(&self, selected: Selected<'_>, asked: Capabilities) -> Result<Edits> {
        match self {
            Provider::Nvidia(module) => module.of_gpu(selected, asked),
            Provider::Wsl(roots, _) => wsl::node(roots),
            Provider::Drm(roots, _) => drm::nodes(roots, selected.gpu),
        }
    }
}

/// Finds all GPUs of the machine.
///
/// # Errors
/// Returns an error if the kernel's files about the GPUs cannot be read or parsed.
pub fn gpus(roots: &Roots) -> Result<Vec<Gpu>> {
    let mut gpus = Vec::new();
    for vendor in Vendor::ALL {
        if let Some(provider) = Provider::of(roots, vendor)? {
            gpus.extend_from_slice(provider.gpus());
        }
    }
    Ok(gpus)
}

/// Returns whether the machine has GPUs of a vendor, with their driver.
///
/// # Errors
/// As [`gpus`].
pub fn has(roots: &Roots, vendor: Vendor) -> Result<bool> {
    Ok(Provider::of(roots, vendor)?.is_some())
}

/// Returns the edits for the GPUs of a request.
///
/// # Errors
/// Returns an error if there are no such GPUs, if a node of the host is another device, or if
/// files of the driver are missing or have another version than the kernel module.
pub fn edits(roots: &Roots, request: &Request, dirs: &LibraryDirs) -> Result<Edits> {
    Finder::new(roots, dirs).edits(request)
}

/// Finds the edits for several requests, and searches the files of a driver only once.
#[derive(Debug)]
pub struct Finder<'a> {
    roots: &'a Roots,
    dirs: &'a LibraryDirs,
    /// The results so far. They also apply to requests that differ only in the selected GPUs.
    found: Vec<(Request, Provider<'a>, Edits)>,
}

impl<'a> Finder<'a> {
    #[must_use]
    /// Makes a finder without results.
    pub fn new(roots: &'a Roots, dirs: &'a LibraryDirs) -> Finder<'a> {
        Finder {
            roots,
            dirs,
            found: Vec::new(),
        }
    }

    /// Returns the edits for the GPUs of a request.
    ///
    /// # Errors
    /// As [`edits`].
    pub fn edits(&mut self, request: &Request) -> Result<Edits> {
        let (_, provider, common) = self.find(request)?;
        let selected = select(provider.gpus(), &request.which)?;
        let mut edits = common.clone();
        for selected in &selected {
            edits.append(provider.of_gpu(*selected, request.capabilities())?);
        }
        if let Provider::Nvidia(module) = provider {
            edits.covers = module.covers(&selected, request.capabilities())?;
        }
        Ok(edits)
    }

    /// Returns the CDI names of the GPUs of a request, with a request for each. If the request
    /// selects no GPU, it returns a request for the driver without a GPU.
    ///
    /// # Errors
    /// As [`edits`].
    pub fn each(&mut self, request: &Request) -> Result<Vec<(String, Request)>> {
        let (_, provider, _) = self.find(request)?;
        let selected = select(provider.gpus(), &request.which)?;
        let each = selected.iter().map(|selected| {
            let name = selected.name();
            let one = Request {
                which: Which::Named(vec![name.clone()]),
                ..request.clone()
            };
            (format!("{}={name}", selected.gpu.vendor.kind()), one)
        });
        let vendor = request.vendor.unwrap_or(Vendor::Nvidia);
        let none = (format!("{}=none", vendor.kind()), request.clone());
        Ok(match selected.is_empty() {
            true => vec![none],
            false => each.collect(),
        })
    }

    fn find(&mut self, request: &Request) -> Result<&(Request, Provider<'a>, Edits)> {
        let like = Request {
            which: Which::All,
            ..request.clone()
        };
        let known = self.found.iter().position(|(known, ..)| *known == like);
        let index = match known {
            Some(index) => index,
            None => {
                let provider = Provider::for_request(self.roots, request)?;
                // Report a wrong name before errors of the driver's files.
                select(provider.gpus(), &request.which)?;
                let common = provider.common(request, self.dirs)?;
                self.found.push((like, provider, common));
                self.found.len() - 1
            }
        };
        Ok(&self.found[index])
    }
}

/// Returns the reasons why edits for GPUs of this machine would fail.
#[must_use]
pub fn problems(roots: &Roots) -> Vec<String> {
    let request = Request::default();
    let mut problems = Vec::new();
    match nvidia::without_driver(roots) {
        Ok(addresses) => problems.extend(addresses.iter().map(|address| {
            format!("NVIDIA's GPU at {address} has no driver (hint: modprobe nvidia)")
        })),
        Err(err) => problems.push(teu_errno::line(&err)),
    }
    for vendor in Vendor::ALL {
        let provider = match Provider::of(roots, vendor) {
            Ok(Some(provider)) => provider,
            Ok(None) => continue,
            Err(err) => {
                problems.push(teu_errno::line(&err));
                continue;
            }
        };
        let common = provider.common(&request, &LibraryDirs::other());
        problems.extend(common.err().map(|err| teu_errno::line(&err)));
        for gpu in provider.gpus().iter().filter(|gpu| gpu.index.is_some()) {
            let whole = Selected::whole(gpu);
            let edits = provider.of_gpu(whole, request.capabilities());
            problems.extend(edits.err().map(|err| teu_errno::line(&err)));
        }
    }
    problems
}

/// Returns the version of NVIDIA's kernel module, if it is loaded.
///
/// # Errors
/// Returns an error if the module's files in /proc cannot be read or parsed.
pub fn nvidia_version(roots: &Roots) -> Result<Option<String>> {
    Ok(Module::find(roots)?.map(|module| module.version))
}
