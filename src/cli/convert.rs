//! Converts the arguments of a command line into the options of the commands, and
//! checks values as far as that depends on nothing but the value. Not for the flags:
//! see `definition.rs`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};
use jiff::SignedDuration;
use teu_cgroups::{BlockIoLimits, CpuLimits, Limits, MemoryLimits};
use teu_plan::CgroupManager;
use teu_plan::exec::Replacements;
use teu_plan::gpu::{CdiHooks, DeviceOptions};
use teu_plan::gpu_request::GpuOptions;
use teu_plan::hotplug::HotplugOptions;

use super::definition::{self, GlobalArgs};
use super::go::truth;
use crate::commands::{
    checkpoint, create, delete, devices, events, exec, gpu, kill, list, ps, restore, run, spec,
    stats, update,
};
use crate::criu::rpc::{self, CgroupMode, PageServer};
use crate::size;
use crate::state::root::Root;

/// Drops an empty value, which unsets an option.
fn non_empty<T: Default + PartialEq>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

/// Returns the absolute path of `--pid-file`.
fn pid_file(value: Option<OsString>) -> Result<Option<PathBuf>> {
    let absolute = non_empty(value).map(|path| {
        std::path::absolute(&path).with_context(|| format!("find the directory of {path:?}"))
    });
    absolute.transpose()
}

impl definition::BundleArgs {
    fn options(self, id: String, global: &GlobalArgs, root: &Root) -> Result<create::Options> {
        Ok(create::Options {
            root: root.path.clone(),
            cgroup_manager: global.cgroup_manager()?,
            rootless: global.rootless_cgroups()?,
            id,
            bundle: non_empty(self.bundle).map_or_else(|| PathBuf::from("."), PathBuf::from),
            console_socket: non_empty(self.console_socket).map(PathBuf::from),
            pidfd_socket: non_empty(self.pidfd_socket).map(PathBuf::from),
            pid_file: pid_file(self.pid_file)?,
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserve_fds: self.preserve_fds,
            devices: self.devices.options(root)?,
        })
    }
}

impl definition::DeviceArgs {
    fn options(self, root: &Root) -> Result<DeviceOptions> {
        let gpus = non_empty(self.gpus).map(|words| {
            let request = words.parse().map_err(Error::msg);
            request.with_context(|| format!("--gpus {words:?}"))
        });
        let hook = non_empty(self.nvidia_hook);
        Ok(DeviceOptions {
            names: self.device,
            directories: self.cdi.directories()?,
            hooks: self.cdi_hooks.parse()?,
            nodes: self.cdi_devices.parse()?,
            cdi_annotations: self.cdi_annotations,
            state: root.path.clone(),
            gpus: GpuOptions {
                request: gpus.transpose()?,
                driver_root: self.driver.root()?,
                hook: hook.map(|word| word.parse()).transpose()?,
                env: self.gpu_env.parse()?,
            },
        })
    }
}

impl definition::CdiArgs {
    /// Returns absolute paths, because the bundle becomes the working directory.
    fn directories(&self) -> Result<Vec<PathBuf>> {
        let directories = self.cdi_dir.iter();
        directories
            .map(|path| absolute("--cdi-dir", path))
            .collect()
    }
}

impl definition::DriverArgs {
    fn root(&self) -> Result<Option<PathBuf>> {
        let root = non_empty(self.driver_root.clone());
        root.map(|path| absolute("--driver-root", &path))
            .transpose()
    }
}

fn absolute(option: &str, path: &OsString) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{option} {path:?}"))
}

impl GlobalArgs {
    /// Returns teu's root, from `--root` and the environment.
    pub(crate) fn root(&self) -> Result<Root> {
        Root::choose(self.root.as_deref())
    }

    /// Returns the value of `--cgroup-manager` or, without it, of `--systemd-cgroup`.
    /// crun has both options, and engines use the former for `disabled`.
    pub(super) fn cgroup_manager(&self) -> Result<CgroupManager> {
        match self.cgroup_manager.as_deref().unwrap_or_default() {
            "" if self.systemd_cgroup => Ok(CgroupManager::Systemd),
            "" | "cgroupfs" => Ok(CgroupManager::Filesystem),
            "systemd" => Ok(CgroupManager::Systemd),
            "disabled" => Ok(CgroupManager::Disabled),
            other => bail!("--cgroup-manager {other:?}: not one of cgroupfs, systemd, disabled"),
        }
    }

    /// Returns the value of `--rootless`. Only commands that make a container call
    /// this, so only they refuse a wrong value.
    fn rootless_cgroups(&self) -> Result<create::Rootless> {
        let value = &self.rootless;
        if value.is_empty() || value.eq_ignore_ascii_case("auto") {
            return Ok(create::Rootless::Auto);
        }
        match truth(value.as_ref()) {
            Some(true) => Ok(create::Rootless::Yes),
            Some(false) => Ok(create::Rootless::No),
            None => bail!("--rootless {value:?}: not one of true, false, auto"),
        }
    }
}

impl definition::CreateArgs {
    pub(crate) fn options(self, global: &GlobalArgs, root: &Root) -> Result<create::Options> {
        self.bundle.options(self.id, global, root)
    }
}

impl definition::RunArgs {
    pub(crate) fn options(self, global: &GlobalArgs, root: &Root) -> Result<run::Options> {
        Ok(run::Options {
            create: self.bundle.options(self.id, global, root)?,
            detach: self.detach,
            keep: self.keep,
            no_subreaper: self.no_subreaper,
        })
    }
}

impl definition::CriuArgs {
    fn images(&self) -> PathBuf {
        non_empty(self.image_path.clone()).map_or_else(|| "checkpoint".into(), PathBuf::from)
    }

    fn work(&self) -> Option<PathBuf> {
        non_empty(self.work_path.clone()).map(PathBuf::from)
    }

    /// Returns the options for CRIU.
    fn criu(&self) -> Result<rpc::Options> {
        if let Some(other) = self.empty_ns.iter().find(|kind| *kind != "network") {
            bail!("namespace {other:?} is not supported");
        }
        Ok(rpc::Options {
            external_unix_sockets: self.ext_unix_sk,
            tcp_established: self.tcp_established,
            shell_job: self.shell_job,
            file_locks: self.file_locks,
            auto_dedup: self.auto_dedup,
            lazy_pages: self.lazy_pages,
            cgroup_mode: self.cgroup_mode()?.into(),
            ..rpc::Options::default()
        })
    }

    fn cgroup_mode(&self) -> Result<CgroupMode> {
        let mode = self.manage_cgroups_mode.as_deref().unwrap_or_default();
        Ok(match mode {
            "" => CgroupMode::Default,
            "soft" => CgroupMode::Soft,
            "full" => CgroupMode::Full,
            "strict" => CgroupMode::Strict,
            "ignore" => CgroupMode::Ignore,
            _ => bail!("invalid manage-cgroups-mode value {mode:?}"),
        })
    }
}

/// Parses the value of `--page-server`.
fn page_server(value: Option<String>) -> Result<Option<PageServer>> {
    let Some(value) = non_empty(value) else {
        return Ok(None);
    };
    let parts = value.rsplit_once(':').map(|(address, port)| {
        let inner = address.strip_prefix('[');
        (
            inner
                .and_then(|inner| inner.strip_suffix(']'))
                .unwrap_or(address),
            port,
        )
    });
    match parts {
        Some((address, port)) if !address.is_empty() && !port.is_empty() => Ok(Some(PageServer {
            address: address.to_owned(),
            port: match port.parse::<u16>() {
                Ok(port) => port.into(),
                Err(_) => bail!("--page-server {value:?}: Invalid port number"),
            },
        })),
        _ => bail!("Use --page-server ADDRESS:PORT to specify page server"),
    }
}

impl definition::CheckpointArgs {
    pub(crate) fn options(self, root: &Root) -> Result<checkpoint::Options> {
        Ok(checkpoint::Options {
            root: root.path.clone(),
            id: self.id,
            images: self.criu.images(),
            work: self.criu.work(),
            parent: non_empty(self.parent_path),
            pre_dump: self.pre_dump,
            criu: rpc::Options {
                leave_running: self.leave_running,
                tcp_skip_in_flight: self.tcp_skip_in_flight,
                link_remap: self.link_remap,
                page_server: page_server(self.page_server)?,
                ..self.criu.criu()?
            },
            status_fd: u32::try_from(self.status_fd).ok(),
        })
    }
}

impl definition::RestoreArgs {
    pub(crate) fn options(self, global: &GlobalArgs, root: &Root) -> Result<restore::Options> {
        let bundle = definition::BundleArgs {
            bundle: self.bundle,
            console_socket: self.console_socket,
            pidfd_socket: None,
            pid_file: self.pid_file,
            no_pivot: self.no_pivot,
            no_new_keyring: false,
            preserve_fds: 0,
            devices: self.devices,
        };
        Ok(restore::Options {
            create: bundle.options(self.id, global, root)?,
            images: self.criu.images(),
            work: self.criu.work(),
            criu: rpc::Options {
                lsm_profile: non_empty(self.lsm_profile),
                lsm_mount_context: non_empty(self.lsm_mount_context),
                ..self.criu.criu()?
            },
            detach: self.detach,
            no_subreaper: self.no_subreaper,
        })
    }
}

impl definition::ExecArgs {
    pub(crate) fn options(self, root: &Root) -> Result<exec::Options> {
        let replacements = Replacements {
            args: self.command,
            cwd: non_empty(self.cwd),
            env: self.env,
            terminal: self.tty,
            user: non_empty(self.user),
            additional_gids: self.additional_gids,
            selinux_label: non_empty(self.process_label),
            apparmor_profile: non_empty(self.apparmor),
            no_new_privileges: self.no_new_privs,
            capabilities: self.cap,
        };
        Ok(exec::Options {
            root: root.path.clone(),
            id: self.id,
            process: non_empty(self.process).map(PathBuf::from),
            replacements,
            detach: self.detach,
            console_socket: non_empty(self.console_socket).map(PathBuf::from),
            pidfd_socket: non_empty(self.pidfd_socket).map(PathBuf::from),
            pid_file: pid_file(self.pid_file)?,
            preserve_fds: self.preserve_fds,
            sub_cgroups: exec::sub_cgroups(&self.cgroup)?,
            ignore_paused: self.ignore_paused,
        })
    }
}

impl definition::KillArgs {
    pub(crate) fn options(self, root: &Root) -> Result<kill::Options> {
        let signal = match non_empty(self.signal) {
            Some(word) => signal(&self.id, &word)?,
            None => libc::SIGTERM,
        };
        Ok(kill::Options {
            root: root.path.clone(),
            id: self.id,
            signal,
            all: self.all,
        })
    }
}

/// Returns the number of a signal. The error has a hint for users of kill(1), where the
/// signal comes first, after a dash.
fn signal(id: &str, word: &str) -> Result<i32> {
    let number = kill::signal_number(word);
    number.map_err(|err| match id.strip_prefix('-') {
        Some(signal) => anyhow!("{err} (the container comes first: kill {word} {signal})"),
        None => err,
    })
}

impl definition::DeleteArgs {
    pub(crate) fn options(self, root: &Root) -> delete::Options {
        delete::Options {
            root: root.path.clone(),
            ids: self.ids,
            force: self.force,
        }
    }
}

impl definition::DevicesArgs {
    pub(crate) fn options(self, root: &Root) -> Result<devices::Options> {
        Ok(devices::Options {
            state: root.path.clone(),
            directories: self.cdi.directories()?,
            action: devices::Action::new(&self.action, self.names)?,
            json: self.json,
        })
    }
}

impl definition::GpuArgs {
    pub(crate) fn options(self, root: &Root) -> Result<gpu::Options> {
        let output = non_empty(self.output).map(PathBuf::from);
        let vendor = non_empty(self.vendor).map(|word| word.parse());
        let capabilities = self.capabilities.parse().map_err(Error::msg);
        let action = gpu::Action::new(&self.action, self.id)?;
        if action != gpu::Action::Cdi && output.is_some() {
            bail!("--output: only for \"cdi\"");
        }
        Ok(gpu::Options {
            root: root.path.clone(),
            directories: self.cdi.directories()?,
            driver_root: self.driver.root()?,
            action,
            json: self.json,
            output,
            vendor: vendor.transpose().map_err(Error::msg).context("--vendor")?,
            capabilities: capabilities.context("--capabilities")?,
        })
    }
}

impl definition::ListArgs {
    pub(crate) fn options(self, root: Root) -> Result<list::Options> {
        let filters = self.filter.iter().map(|word| word.parse());
        Ok(list::Options {
            root,
            format: self.format.parse()?,
            quiet: self.quiet,
            filters: filters.collect::<Result<_>>()?,
        })
    }
}

impl definition::PsArgs {
    pub(crate) fn options(self, root: &Root) -> Result<ps::Options> {
        Ok(ps::Options {
            root: root.path.clone(),
            id: self.id,
            format: self.format.parse()?,
            args: self.args,
        })
    }
}

impl definition::StatsArgs {
    pub(crate) fn options(self, root: Root) -> Result<stats::Options> {
        let format = non_empty(self.format).map(|word| word.parse());
        Ok(stats::Options {
            root,
            ids: self.ids,
            interval: interval(&self.interval)?,
            once: self.no_stream,
            format: format.transpose()?,
        })
    }
}

impl definition::EventsArgs {
    pub(crate) fn options(self, root: &Root) -> Result<events::Options> {
        Ok(events::Options {
            root: root.path.clone(),
            id: self.id,
            interval: interval(&self.interval)?,
            stats: self.stats,
        })
    }
}

/// Parses the value of `--interval`. The error is that of urfave/cli.
fn interval(word: &str) -> Result<Duration> {
    match word.parse::<SignedDuration>() {
        // The command refuses negative intervals like 0.
        Ok(interval) => Ok(Duration::try_from(interval).unwrap_or_default()),
        // In Go, 0 needs no unit.
        Err(_) if word == "0" => Ok(Duration::ZERO),
        Err(_) => bail!("invalid value {word:?} for flag -interval: parse error"),
    }
}

impl definition::UpdateArgs {
    pub(crate) fn options(self, root: &Root) -> Result<update::Options> {
        let id = self.id.clone();
        let devices = HotplugOptions {
            add: self.device_add.clone(),
            remove: self.device_rm.clone(),
            devices: DeviceOptions {
                directories: self.cdi.directories()?,
                hooks: match self.cdi_hooks.parse()? {
                    CdiHooks::None => CdiHooks::LeftOut,
                    hooks => hooks,
                },
                nodes: self.cdi_devices.parse()?,
                state: root.path.clone(),
                gpus: GpuOptions {
                    driver_root: self.driver.root()?,
                    ..GpuOptions::default()
                },
                ..DeviceOptions::default()
            },
        };
        let l3_cache_schema = self.l3_cache_schema.clone().unwrap_or_default();
        let memory_bandwidth_schema = self.mem_bw_schema.clone().unwrap_or_default();
        let change = match non_empty(self.resources.clone()) {
            Some(file) => update::Change::File(file.into()),
            None => update::Change::Limits(Box::new(self.limits()?)),
        };
        Ok(update::Options {
            root: root.path.clone(),
            id,
            change,
            devices,
            l3_cache_schema,
            memory_bandwidth_schema,
        })
    }

    fn limits(self) -> Result<Limits> {
        let kernel_memory = [
            bytes(self.kernel_memory, "kernel-memory")?,
            bytes(self.kernel_memory_tcp, "kernel-memory-tcp")?,
        ];
        if kernel_memory.iter().any(Option::is_some) {
            log::warn!("Kernel memory settings are ignored and will be removed");
        }
        Ok(Limits {
            cpu: CpuLimits {
                shares: number(self.cpu_share, "cpu-share")?,
                quota: number(self.cpu_quota, "cpu-quota")?,
                period: number(self.cpu_period, "cpu-period")?,
                burst: number(self.cpu_burst, "cpu-burst")?,
                idle: number(self.cpu_idle, "cpu-idle")?,
                realtime_runtime: number(self.cpu_rt_runtime, "cpu-rt-runtime")?,
                realtime_period: number(self.cpu_rt_period, "cpu-rt-period")?,
                cpus: self.cpuset_cpus.unwrap_or_default(),
                mems: self.cpuset_mems.unwrap_or_default(),
            },
            memory: MemoryLimits {
                limit: bytes(self.memory, "memory")?,
                reservation: bytes(self.memory_reservation, "memory-reservation")?,
                swap: bytes(self.memory_swap, "memory-swap")?,
                ..MemoryLimits::default()
            },
            pids: number(self.pids_limit, "pids-limit")?,
            block_io: BlockIoLimits {
                weight: number(self.blkio_weight, "blkio-weight")?,
                ..BlockIoLimits::default()
            },
            ..Limits::default()
        })
    }
}

/// Parses a decimal number; `None` if missing or empty.
fn number<T: FromStr<Err: std::fmt::Display>>(
    value: Option<String>,
    name: &str,
) -> Result<Option<T>> {
    let Some(value) = non_empty(value) else {
        return Ok(None);
    };
    match value.parse() {
        Ok(number) => Ok(Some(number)),
        Err(err) => bail!("invalid value for {name}: {value:?}: {err}"),
    }
}

/// Parses a number of bytes, with or without a unit, or -1; `None` if missing or empty.
fn bytes(value: Option<String>, name: &str) -> Result<Option<i64>> {
    let Some(value) = non_empty(value) else {
        return Ok(None);
    };
    match value.as_str() {
        "-1" => Ok(Some(-1)),
        value => match size::parse(value) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(err) => bail!("invalid value for {name}: {err}"),
        },
    }
}

impl definition::SpecArgs {
    pub(crate) fn options(self) -> spec::Options {
        let bundle = non_empty(self.bundle).map_or_else(|| PathBuf::from("."), PathBuf::from);
        spec::Options {
            bundle,
            rootless: self.rootless,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_before_the_container_is_hinted_at() {
        assert_eq!(signal("c1", "KILL").expect("a signal"), libc::SIGKILL);
        // The name of a container may begin with a dash.
        assert_eq!(signal("-c1", "9").expect("a signal"), libc::SIGKILL);
        let words = |id, word| signal(id, word).expect_err("no signal").to_string();
        assert_eq!(words("c1", "x"), "unknown signal \"x\"");
        assert_eq!(
            words("-9", "c1"),
            "unknown signal \"c1\" (the container comes first: kill c1 9)"
        );
    }
}
