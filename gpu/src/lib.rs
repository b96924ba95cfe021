//! What a container needs to use GPUs and other devices: found on the host, or
//! described by files of the Container Device Interface (CDI). Either becomes edits of
//! its specification.
//!
//! Files are read and device nodes looked at; nothing is changed, loaded or started.
//! Not for the decision who may ask for which device, or whose files are believed.

pub mod cdi;
mod drm;
mod edits;
mod generate;
mod gpu;
mod known_hooks;
mod ld_cache;
mod nvidia;
mod request;
mod roots;

use std::path::PathBuf;

pub use edits::{Content, Cover, Edits, Link, Moment, Node};
pub use generate::generate;
pub use gpu::{DrmNode, Gpu, Instance, Vendor};
pub use known_hooks::is_known_hook;
pub use request::{Capabilities, Request, Which};
pub use roots::Roots;

use gpu::{Selected, select};
use nvidia::{Module, wsl};

/// Where the container's C library looks for libraries without being told.
#[derive(Debug, Clone)]
pub struct LibraryDirs {
    pub native: PathBuf,
    /// For libraries of 32 bits.
    pub compat32: PathBuf,
}

impl LibraryDirs {
    /// Those of Debian and what descends from it.
    #[must_use]
    pub fn debian() -> LibraryDirs {
        LibraryDirs {
            native: format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH).into(),
            compat32: "/usr/lib/i386-linux-gnu".into(),
        }
    }

    /// Those of most others.
    #[must_use]
    pub fn other() -> LibraryDirs {
        LibraryDirs {
            native: "/usr/lib64".into(),
            compat32: "/usr/lib".into(),
        }
    }
}

/// The GPUs of one vendor, and what they need.
#[derive(Debug)]
enum Provider<'a> {
    Nvidia(Module<'a>),
    Wsl(&'a Roots, Vec<Gpu>),
    Drm(&'a Roots, Vec<Gpu>),
}

impl<'a> Provider<'a> {
    /// That of a vendor, if there is one.
    fn of(roots: &'a Roots, vendor: Vendor) -> Result<Option<Provider<'a>>, String> {
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

    /// That of the request. One that is of no vendor does not mean whatever else has
    /// a node in /dev/dri, as the console of a server.
    fn for_request(roots: &'a Roots, request: &Request) -> Result<Provider<'a>, String> {
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
                "there is no GPU of NVIDIA, AMD or Intel, or its driver is not loaded".to_owned()
            }
            Some(Vendor::Nvidia) => "NVIDIA's driver is not loaded (modprobe nvidia): there is no \
                 /proc/driver/nvidia/version"
                .to_owned(),
            Some(vendor) => format!("there is no GPU for the driver {:?}", vendor.word()),
        })
    }

    fn gpus(&self) -> &[Gpu] {
        match self {
            Provider::Nvidia(module) => &module.gpus,
            Provider::Wsl(_, gpus) | Provider::Drm(_, gpus) => gpus,
        }
    }

    /// What comes once, with whichever of the GPUs.
    fn common(&self, request: &Request, dirs: &LibraryDirs) -> Result<Edits, String> {
        match self {
            Provider::Nvidia(module) => module.common(request, dirs),
            Provider::Wsl(roots, _) => wsl::common(roots, request.capabilities(), dirs),
            Provider::Drm(roots, gpus) => drm::common(roots, gpus),
        }
    }

    /// What comes with one of them.
    fn of_gpu(&self, selected: Selected<'_>, asked: Capabilities) -> Result<Edits, String> {
        match self {
            Provider::Nvidia(module) => module.of_gpu(selected, asked),
            Provider::Wsl(roots, _) => wsl::node(roots),
            Provider::Drm(roots, _) => drm::nodes(roots, selected.gpu),
        }
    }
}

/// All GPUs of the machine.
///
/// # Errors
/// What the kernel says of them cannot be read, or is not as it has to be.
pub fn gpus(roots: &Roots) -> Result<Vec<Gpu>, String> {
    let mut gpus = Vec::new();
    for vendor in Vendor::ALL {
        if let Some(provider) = Provider::of(roots, vendor)? {
            gpus.extend_from_slice(provider.gpus());
        }
    }
    Ok(gpus)
}

/// Whether the machine has GPUs of a vendor, with their driver.
///
/// # Errors
/// What the kernel says of them cannot be read, or is not as it has to be.
pub fn has(roots: &Roots, vendor: Vendor) -> Result<bool, String> {
    Ok(Provider::of(roots, vendor)?.is_some())
}

/// What the GPUs of a request bring.
///
/// # Errors
/// There are no such GPUs; a node of the host is another device; files of the driver
/// are missing, or of another version than the kernel module.
pub fn edits(roots: &Roots, request: &Request, dirs: &LibraryDirs) -> Result<Edits, String> {
    Finder::new(roots, dirs).edits(request)
}

/// Finds what GPUs bring. What requests have in common is looked for once.
#[derive(Debug)]
pub struct Finder<'a> {
    roots: &'a Roots,
    dirs: &'a LibraryDirs,
    /// A request for each, which others may differ from in which GPUs they mean.
    found: Vec<(Request, Provider<'a>, Edits)>,
}

impl<'a> Finder<'a> {
    #[must_use]
    pub fn new(roots: &'a Roots, dirs: &'a LibraryDirs) -> Finder<'a> {
        Finder {
            roots,
            dirs,
            found: Vec::new(),
        }
    }

    /// # Errors
    /// As for [`edits`].
    pub fn edits(&mut self, request: &Request) -> Result<Edits, String> {
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

    /// The GPUs of a request by their names in CDI, with a request for each. If it means
    /// none, there is the driver without one.
    ///
    /// # Errors
    /// As for [`edits`].
    pub fn each(&mut self, request: &Request) -> Result<Vec<(String, Request)>, String> {
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

    fn find(&mut self, request: &Request) -> Result<&(Request, Provider<'a>, Edits), String> {
        let like = Request {
            which: Which::All,
            ..request.clone()
        };
        let known = self.found.iter().position(|(known, ..)| *known == like);
        let index = match known {
            Some(index) => index,
            None => {
                let provider = Provider::for_request(self.roots, request)?;
                // A wrong name is told before what may be wrong with files.
                select(provider.gpus(), &request.which)?;
                let common = provider.common(request, self.dirs)?;
                self.found.push((like, provider, common));
                self.found.len() - 1
            }
        };
        Ok(&self.found[index])
    }
}

/// What is wrong with the GPUs of this machine, for each what its edits would fail for.
#[must_use]
pub fn problems(roots: &Roots) -> Vec<String> {
    let request = Request::default();
    let mut problems = Vec::new();
    match nvidia::without_driver(roots) {
        Ok(addresses) => problems.extend(addresses.iter().map(|address| {
            format!("NVIDIA's GPU at {address} has no driver (hint: modprobe nvidia)")
        })),
        Err(reason) => problems.push(reason),
    }
    for vendor in Vendor::ALL {
        let provider = match Provider::of(roots, vendor) {
            Ok(Some(provider)) => provider,
            Ok(None) => continue,
            Err(reason) => {
                problems.push(reason);
                continue;
            }
        };
        problems.extend(provider.common(&request, &LibraryDirs::other()).err());
        for gpu in provider.gpus().iter().filter(|gpu| gpu.index.is_some()) {
            let whole = Selected::whole(gpu);
            problems.extend(provider.of_gpu(whole, request.capabilities()).err());
        }
    }
    problems
}

/// The version of NVIDIA's kernel module, if it is loaded.
///
/// # Errors
/// What it says cannot be read, or is not as it has to be.
pub fn nvidia_version(roots: &Roots) -> Result<Option<String>, String> {
    Ok(Module::find(roots)?.map(|module| module.version))
}
