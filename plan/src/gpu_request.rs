//! Which GPUs a container is to have of those that this machine has: asked for by
//! --gpus, by NVIDIA's hook in config.json, or, if that is allowed, by variables.

use core::str::FromStr;

use anyhow::{Context, Error, Result, bail};
use oci_spec::runtime::{Capability, Hook, LinuxDeviceType, Spec};
use teu_gpu_types::{Capabilities, Request, Vendor, Which};

use crate::prelude::*;

/// The program that Docker has run for --gpus. Its work is ours: it changes device
/// rules behind the runtime's back, so that the next update takes them back.
pub const NVIDIA_HOOK: &str = "nvidia-container-runtime-hook";
/// The same by an older name.
const OLDER_HOOK: &str = "nvidia-container-toolkit";

const NVIDIA_DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";
const NVIDIA_CAPABILITIES: &str = "NVIDIA_DRIVER_CAPABILITIES";
const AMD_DEVICES: &str = "AMD_VISIBLE_DEVICES";

/// What the command line says about GPUs.
#[derive(Debug, Clone, Default)]
pub struct GpuOptions {
    /// Those of --gpus.
    pub request: Option<Request>,
    /// Where the files of drivers are, if not in the root of the host.
    pub driver_root: Option<PathBuf>,
    /// Without it, it depends on whether there is a driver of NVIDIA's.
    pub hook: Option<NvidiaHook>,
    pub env: GpuEnv,
}

/// What becomes of NVIDIA's hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NvidiaHook {
    Take,
    Keep,
    Refuse,
}

impl FromStr for NvidiaHook {
    type Err = Error;

    fn from_str(word: &str) -> Result<NvidiaHook> {
        match word {
            "take" => Ok(NvidiaHook::Take),
            "keep" => Ok(NvidiaHook::Keep),
            "refuse" => Ok(NvidiaHook::Refuse),
            _ => bail!("--nvidia-hook {word:?}: not one of take, keep, refuse"),
        }
    }
}

/// When variables ask for GPUs, which may be the image's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GpuEnv {
    #[default]
    Never,
    /// With the privilege that gives all others.
    Privileged,
    Always,
}

impl FromStr for GpuEnv {
    type Err = Error;

    fn from_str(word: &str) -> Result<GpuEnv> {
        match word {
            "never" => Ok(GpuEnv::Never),
            "privileged" => Ok(GpuEnv::Privileged),
            "always" => Ok(GpuEnv::Always),
            _ => bail!("--gpu-env {word:?}: not one of never, privileged, always"),
        }
    }
}

/// The GPUs asked for. `others`: devices are asked for by name, too.
///
/// # Errors
/// The hook is refused.
pub fn requests(
    spec: &Spec,
    options: &GpuOptions,
    others: bool,
    has_nvidia_driver: bool,
) -> Result<Vec<Request>> {
    let mut requests: Vec<Request> = options.request.clone().into_iter().collect();
    if takes_hook(spec, options, has_nvidia_driver)? {
        // Whoever puts in the hook sets the variable after those of the image.
        requests.extend(asked_by(spec, Vendor::Nvidia, NVIDIA_DEVICES));
    } else if requests.is_empty() && !others && variables_count(spec, options.env) {
        requests.extend(asked_by(spec, Vendor::Nvidia, NVIDIA_DEVICES));
        requests.extend(asked_by(spec, Vendor::Amd, AMD_DEVICES));
    }
    Ok(requests)
}

/// Which files of the driver the container is to have, if nobody says so with the GPUs.
///
/// # Errors
/// The variable for it has a word that nobody knows.
pub fn capabilities(spec: &Spec) -> Result<Option<Capabilities>> {
    let words = variable(spec, NVIDIA_CAPABILITIES);
    let parsed = words.map(|words| words.parse().map_err(Error::msg));
    parsed.transpose().context(NVIDIA_CAPABILITIES)
}

/// Tells who asked for some of the GPUs if the container may use all devices there
/// are.
pub fn warn_if_privileged(spec: &Spec, requests: &[Request]) {
    let resources = spec.linux().as_ref().and_then(|l| l.resources().as_ref());
    let rules = resources.and_then(|resources| resources.devices().as_ref());
    let all = |kind: Option<LinuxDeviceType>| kind.is_none_or(|kind| kind == LinuxDeviceType::A);
    let mut of_all = rules.into_iter().flatten().filter(|rule| {
        let numbers = [rule.major(), rule.minor()];
        all(rule.typ())
            && numbers
                .iter()
                .all(|number| number.is_none_or(|number| number < 0))
    });
    let is_privileged = of_all.next_back().is_some_and(|rule| rule.allow());
    if is_privileged && requests.iter().any(|request| request.which != Which::All) {
        log::warn!("the container may use all devices, also GPUs that were not asked for");
    }
}

/// Whether it depends on NVIDIA's driver what becomes of NVIDIA's hook.
pub fn needs_driver(spec: &Spec, options: &GpuOptions) -> bool {
    options.hook.is_none() && nvidias_hook(spec).is_some()
}

fn nvidias_hook(spec: &Spec) -> Option<&Hook> {
    let hooks = spec.hooks().as_ref().and_then(|h| h.prestart().as_ref());
    hooks.into_iter().flatten().find(|hook| is_nvidias(hook))
}

/// Whether the work of NVIDIA's hook is done here.
///
/// # Errors
/// The hook is refused.
pub(super) fn takes_hook(
    spec: &Spec,
    options: &GpuOptions,
    has_nvidia_driver: bool,
) -> Result<bool> {
    let Some(hook) = nvidias_hook(spec) else {
        return Ok(false);
    };
    match options.hook {
        Some(NvidiaHook::Take) => Ok(true),
        Some(NvidiaHook::Keep) => Ok(false),
        Some(NvidiaHook::Refuse) => bail!(
            "config.json has NVIDIA's hook {:?}, and --nvidia-hook is \"refuse\"",
            hook.path()
        ),
        None => Ok(has_nvidia_driver),
    }
}

fn is_nvidias(hook: &Hook) -> bool {
    let name = hook.path().file_name();
    name.is_some_and(|name| name == NVIDIA_HOOK || name == OLDER_HOOK)
}

/// Takes NVIDIA's hook out of the specification.
pub(super) fn remove_hook(spec: &mut Spec) {
    let hooks = spec.hooks_mut().as_mut();
    if let Some(hooks) = hooks.and_then(|hooks| hooks.prestart_mut().as_mut()) {
        hooks.retain(|hook| !is_nvidias(hook));
    }
}

fn variables_count(spec: &Spec, env: GpuEnv) -> bool {
    match env {
        GpuEnv::Never => false,
        GpuEnv::Privileged => {
            let process = spec.process().as_ref();
            let capabilities = process.and_then(|process| process.capabilities().as_ref());
            let bounding = capabilities.and_then(|capabilities| capabilities.bounding().as_ref());
            bounding.is_some_and(|bounding| bounding.contains(&Capability::SysAdmin))
        }
        GpuEnv::Always => true,
    }
}

fn asked_by(spec: &Spec, vendor: Vendor, name: &str) -> Option<Request> {
    Request::from_variable(vendor, variable(spec, name)?)
}

/// The value of a variable of the process; the last of several, as the process has it.
fn variable<'a>(spec: &'a Spec, name: &str) -> Option<&'a str> {
    let env = spec.process().as_ref()?.env().as_ref()?;
    let mut values = env
        .iter()
        .rev()
        .filter_map(|variable| variable.split_once('='));
    values.find_map(|(known, value)| (known == name).then_some(value))
}
