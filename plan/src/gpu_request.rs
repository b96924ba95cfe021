//! Decides which of the machine's GPUs a container gets. A request for GPUs comes from
//! `--gpus`, from NVIDIA's hook in config.json, or, if `--gpu-env` allows it, from
//! environment variables. Not for the words in a request: see the crate `teu-gpu-types`. Not
//! for finding GPUs: see the crate `teu-gpu`.

use core::str::FromStr;

use anyhow::{Context, Error, Result, bail};
use oci_spec::runtime::{Capability, Hook, LinuxDeviceType, Spec};
use teu_gpu_types::{Capabilities, Request, Vendor, Which};

use crate::prelude::*;

/// The hook that Docker adds to config.json for `docker run --gpus`. teu does the work of
/// this hook itself, because the hook changes the cgroup's device rules without teu's
/// knowledge, and the next update of the container would revert the change.
pub const NVIDIA_HOOK: &str = "nvidia-container-runtime-hook";
/// An older name of [`NVIDIA_HOOK`].
const OLDER_HOOK: &str = "nvidia-container-toolkit";

const NVIDIA_DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";
const NVIDIA_CAPABILITIES: &str = "NVIDIA_DRIVER_CAPABILITIES";
const AMD_DEVICES: &str = "AMD_VISIBLE_DEVICES";

/// The options of the command line for GPUs.
#[derive(Debug, Clone, Default)]
pub struct GpuOptions {
    /// The GPUs that `--gpus` asks for.
    pub request: Option<Request>,
    /// The directory with the driver's files; `None` means the root of the host.
    pub driver_root: Option<PathBuf>,
    /// `--nvidia-hook`; `None` means [`NvidiaHook::Take`] if the host has NVIDIA's driver,
    /// otherwise [`NvidiaHook::Keep`].
    pub hook: Option<NvidiaHook>,
    pub env: GpuEnv,
}

/// The treatment of NVIDIA's hook: teu does its work (`Take`), runs it (`Keep`), or refuses
/// the container (`Refuse`).
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

/// Says when environment variables may ask for GPUs. The variables may come from the image,
/// which is not trusted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GpuEnv {
    #[default]
    Never,
    /// Variables count if the bounding set has CAP_SYS_ADMIN, because a process with this
    /// capability can get everything else.
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

/// Returns the requests for GPUs. `others` says whether devices are requested by name, too;
/// if so, environment variables count only together with NVIDIA's hook.
///
/// # Errors
/// Returns an error if `--nvidia-hook refuse` refuses the hook.
pub fn requests(
    spec: &Spec,
    options: &GpuOptions,
    others: bool,
    has_nvidia_driver: bool,
) -> Result<Vec<Request>> {
    let mut requests: Vec<Request> = options.request.clone().into_iter().collect();
    if takes_hook(spec, options, has_nvidia_driver)? {
        // The variable comes from the engine that added the hook: it sets the variable
        // after those of the image.
        requests.extend(asked_by(spec, Vendor::Nvidia, NVIDIA_DEVICES));
    } else if requests.is_empty() && !others && variables_count(spec, options.env) {
        requests.extend(asked_by(spec, Vendor::Nvidia, NVIDIA_DEVICES));
        requests.extend(asked_by(spec, Vendor::Amd, AMD_DEVICES));
    }
    Ok(requests)
}

/// Returns the driver capabilities that NVIDIA_DRIVER_CAPABILITIES asks for. They select
/// the driver's files for requests that do not name capabilities themselves.
///
/// # Errors
/// Returns an error if the variable has an unknown word.
pub fn capabilities(spec: &Spec) -> Result<Option<Capabilities>> {
    let words = variable(spec, NVIDIA_CAPABILITIES);
    let parsed = words.map(|words| words.parse().map_err(Error::msg));
    parsed.transpose().context(NVIDIA_CAPABILITIES)
}

/// Warns if a container that gets only some of the GPUs may use all devices of the host.
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

/// Returns whether teu has to look for NVIDIA's driver in order to decide about NVIDIA's
/// hook: config.json has the hook, and `--nvidia-hook` is not given.
pub fn needs_driver(spec: &Spec, options: &GpuOptions) -> bool {
    options.hook.is_none() && nvidias_hook(spec).is_some()
}

fn nvidias_hook(spec: &Spec) -> Option<&Hook> {
    let hooks = spec.hooks().as_ref().and_then(|h| h.prestart().as_ref());
    hooks.into_iter().flatten().find(|hook| is_nvidias(hook))
}

/// Returns whether teu does the work of NVIDIA's hook. Returns false if config.json does
/// not have the hook.
///
/// # Errors
/// Returns an error if `--nvidia-hook refuse` refuses the hook.
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

/// Removes NVIDIA's hook from the specification.
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

/// Returns the value of a variable of the process. If the name occurs several times, the
/// last one counts.
fn variable<'a>(spec: &'a Spec, name: &str) -> Option<&'a str> {
    let env = spec.process().as_ref()?.env().as_ref()?;
    let mut values = env
        .iter()
        .rev()
        .filter_map(|variable| variable.split_once('='));
    values.find_map(|(known, value)| (known == name).then_some(value))
}
