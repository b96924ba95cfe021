//! The definition of the command line: every command, its flags and its help.
//!
//! clap reads by it, once `go.rs` has turned runc's spellings into clap's. The
//! man pages and completions are made of it as well (`examples/docs.rs`), so
//! this file uses nothing but clap and the standard library. The structs have no
//! doc comments: clap would take them for the help of their commands.

use std::ffi::OsString;
use std::fmt::Display;

const DESCRIBES_TEU: &str = "\
teu runs containers that are packaged by the Open Container Initiative's
specification. It makes one container from one bundle and leaves the rest to
whoever calls it: engines such as containerd, CRI-O and Podman, or you.

A bundle is a directory with a specification file named \"config.json\" and a
root filesystem. To run the container of the bundle in the current directory:

    # teu run <container-id>

<container-id> is your name for the container. No other container below the
same --root may have it.";

const DESCRIBES_CREATION: &str = "The container is made from a bundle: a directory with a \
specification file named \"config.json\"\nand a root filesystem. The program that the container \
runs is process.args of that file;\n\"teu spec\" writes a file to begin with.";

const EXPLAINS_NEW_ID: &str = "<container-id> is your name for the container. No other container below the same --root\n\
     may have it.";

const EXPLAINS_ID: &str = "<container-id> is the name the container was created with.";

const DESCRIBES_CHECKPOINT: &str = "Stores the processes of a running container in image files, with \
criu(8). The container is then\ndeleted, unless it is to go on; \"teu restore\" brings it back.";

const DESCRIBES_RESTORE: &str = "Brings a container back from the image files of \
\"teu checkpoint\". The bundle must be that of the\ncontainer stored; its root filesystem is \
not in the image files.";

/// All that can be typed.
#[derive(Debug, clap::Parser)]
#[command(
    name = "teu",
    about = "Open Container Initiative runtime",
    long_about = DESCRIBES_TEU,
    // Of a flag given several times the last counts.
    args_override_self = true,
    // It is among the flags.
    disable_version_flag = true,
    // A line of help stays one.
    term_width = 0
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// The command asked for, with its options. Only of that one the flags and the
/// texts are put together (`defer`).
#[derive(Debug, clap::Subcommand)]
#[command(defer = true)]
#[allow(clippy::large_enum_variant, reason = "there is one in a process")]
pub(crate) enum Command {
    /// store a running container in files
    Checkpoint(CheckpointArgs),
    /// create a container
    Create(CreateArgs),
    /// delete containers and everything held for them
    Delete(DeleteArgs),
    /// show the devices that CDI files describe
    Devices(DevicesArgs),
    /// show what a container uses and what happens to it, as JSON
    Events(EventsArgs),
    /// run a further process in a container
    Exec(ExecArgs),
    /// show what this runtime supports
    #[command(
        long_about = "Prints what this runtime supports as JSON, as features.md of the runtime \
                      specification defines it."
    )]
    Features,
    /// show the GPUs of this machine and what is wrong with them
    Gpu(GpuArgs),
    /// send a signal to the container's init process
    Kill(KillArgs),
    /// list the containers below the given root
    List(ListArgs),
    /// pause all processes of a container
    #[command(
        long_about = "Stops every process of the container until \"teu resume\".",
        after_help = EXPLAINS_ID
    )]
    Pause(ContainerArgs),
    /// show the processes of a container
    Ps(PsArgs),
    /// bring a container back from files
    Restore(RestoreArgs),
    /// let a paused container go on
    #[command(
        long_about = "Lets every process of a container go on that \"teu pause\" stopped.",
        after_help = EXPLAINS_ID
    )]
    Resume(ContainerArgs),
    /// create and run a container
    Run(RunArgs),
    /// write a new specification file
    Spec(SpecArgs),
    /// start the program of a created container
    #[command(
        long_about = "Lets the init process of a created container execute the program of its\n\
                      specification. It does not wait for that program.",
        after_help = EXPLAINS_ID
    )]
    Start(ContainerArgs),
    /// output the state of a container
    #[command(
        long_about = "Prints the state of the container as JSON, as the runtime specification defines it.",
        after_help = EXPLAINS_ID
    )]
    State(ContainerArgs),
    /// watch what containers use
    Stats(StatsArgs),
    /// change the limits of a container
    Update(UpdateArgs),
}

// What stands before the command, and may also stand after it.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct GlobalArgs {
    /// write debug messages to the log
    #[arg(long)]
    pub(crate) debug: bool,
    /// append log messages to FILE instead of writing them to standard error
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<OsString>,
    /// how log messages are written: 'text' or 'json'
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: OsString,
    /// append how long each step took to FILE, as Chrome's trace events: Perfetto shows them
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<OsString>,
    /// directory that holds the state of the containers; best on a tmpfs (default: "/run/teu", or
    /// "$XDG_RUNTIME_DIR/teu" without privileges)
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<OsString>,
    /// let systemd make the cgroups; cgroupsPath then reads "slice:prefix:name", for example
    /// "system.slice:teu:434234"
    #[arg(long)]
    pub(crate) systemd_cgroup: bool,
    /// who makes the cgroups: 'cgroupfs' (teu itself), 'systemd', or 'disabled', which leaves the
    /// container in the cgroup of its caller (default: 'cgroupfs', or 'systemd' with
    /// --systemd-cgroup)
    #[arg(long, value_name = "MANAGER")]
    pub(crate) cgroup_manager: Option<String>,
    /// go on where permission for cgroups is missing: 'auto', 'true' or 'false'
    #[arg(long, value_name = "VALUE", default_value = "auto")]
    pub(crate) rootless: String,
    /// print the version
    #[arg(long, short = 'v')]
    pub(crate) version: bool,
}

// What describes a new container, shared by `create` and `run`.
#[derive(Debug, clap::Args)]
pub(crate) struct BundleArgs {
    /// directory of the bundle; the current directory if not given
    #[arg(long, short, value_name = "DIR")]
    pub(crate) bundle: Option<OsString>,
    /// AF_UNIX socket to which the controlling side of the container's terminal is sent
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<OsString>,
    /// AF_UNIX socket to which a pidfd of the container's init process is sent
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<OsString>,
    /// file to write the process id of the container's init process to
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<OsString>,
    /// change the root by moving the mount and chroot instead of pivot_root; for a root
    /// filesystem on a ramdisk
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// keep the caller's session keyring instead of making one for the container
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
    /// pass N more file descriptors to the container, beyond standard input, output, error and
    /// those of $LISTEN_FDS
    #[arg(long, value_name = "N", default_value = "0", value_parser = number::<u32>)]
    pub(crate) preserve_fds: u32,
    #[command(flatten)]
    pub(crate) devices: DeviceArgs,
}

// Where devices are described; for all commands that look for them.
#[derive(Debug, clap::Args)]
pub(crate) struct CdiArgs {
    /// directory of CDI files; may be given several times, and then the last counts most
    /// (default: "/etc/cdi" and "/var/run/cdi")
    #[arg(long, value_name = "DIR")]
    pub(crate) cdi_dir: Vec<OsString>,
}

// Where drivers are; for all commands that look for GPUs.
#[derive(Debug, clap::Args)]
pub(crate) struct DriverArgs {
    /// directory that the driver of GPUs is below, with its libraries and programs; "/" if not given
    #[arg(long, value_name = "DIR")]
    pub(crate) driver_root: Option<OsString>,
}

// Devices that a container is to have, for all commands that make one.
#[derive(Debug, clap::Args)]
pub(crate) struct DeviceArgs {
    /// give the container a device that a CDI file describes; may be given several times
    #[arg(long, value_name = "VENDOR/CLASS=NAME")]
    pub(crate) device: Vec<String>,
    #[command(flatten)]
    pub(crate) cdi: CdiArgs,
    /// whether hooks of CDI devices run: 'all', 'known', which does without them what those of
    /// NVIDIA do and refuses others, or 'none', which refuses such devices
    #[arg(long, value_name = "WHICH", default_value = "all")]
    pub(crate) cdi_hooks: String,
    /// which device nodes CDI files may give: 'usual' or 'any', also disks and memory
    #[arg(long, value_name = "WHICH", default_value = "usual")]
    pub(crate) cdi_devices: String,
    /// also give the devices that annotations "cdi.k8s.io/..." ask for
    #[arg(long)]
    pub(crate) cdi_annotations: bool,
    /// give the container GPUs: 'all', how many, or which, as '0,1' or 'GPU-...' (a single number
    /// is how many; 'device=0' is the first)
    #[arg(long, value_name = "WHICH")]
    pub(crate) gpus: Option<String>,
    #[command(flatten)]
    pub(crate) driver: DriverArgs,
    /// what becomes of the hook that Docker has run for --gpus: 'take', to give the GPUs it is asked
    /// for, 'keep' or 'refuse' (default: 'take' where a driver of NVIDIA is loaded, else 'keep')
    #[arg(long, value_name = "WHAT")]
    pub(crate) nvidia_hook: Option<String>,
    /// when NVIDIA_VISIBLE_DEVICES and AMD_VISIBLE_DEVICES, which images may set, ask for GPUs:
    /// 'never', 'privileged' (with CAP_SYS_ADMIN) or 'always'
    #[arg(long, value_name = "WHEN", default_value = "never")]
    pub(crate) gpu_env: String,
}

// The options of a command that needs no more than a container.
#[derive(Debug, clap::Args)]
pub(crate) struct ContainerArgs {
    /// name of the container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}

#[derive(Debug, clap::Args)]
#[command(long_about = DESCRIBES_CREATION, after_help = EXPLAINS_NEW_ID)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) bundle: BundleArgs,
    /// name of the new container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}

#[derive(Debug, clap::Args)]
#[command(long_about = DESCRIBES_CREATION, after_help = EXPLAINS_NEW_ID)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) bundle: BundleArgs,
    /// do not wait for the container's process
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// do not delete the container after its process has ended
    #[arg(long)]
    pub(crate) keep: bool,
    /// do not become the parent of the container's orphaned processes
    #[arg(long)]
    pub(crate) no_subreaper: bool,
    /// name of the new container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}

// What is for CRIU, shared by `checkpoint` and `restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct CriuArgs {
    /// directory of the image files (default: "checkpoint" in the current directory)
    #[arg(long, value_name = "DIR")]
    pub(crate) image_path: Option<OsString>,
    /// directory of CRIU's log and other work files (default: that of the image files)
    #[arg(long, value_name = "DIR")]
    pub(crate) work_path: Option<OsString>,
    /// also with open TCP connections
    #[arg(long)]
    pub(crate) tcp_established: bool,
    /// also with sockets connected to others outside of the container
    #[arg(long)]
    pub(crate) ext_unix_sk: bool,
    /// also with a terminal or session of the caller's
    #[arg(long)]
    pub(crate) shell_job: bool,
    /// leave memory where it is until it is used, and then fetch it through userfaultfd(2)
    #[arg(long)]
    pub(crate) lazy_pages: bool,
    /// also with file locks
    #[arg(long)]
    pub(crate) file_locks: bool,
    /// what CRIU does about cgroups: 'soft', 'full', 'strict' or 'ignore' (default: "soft")
    #[arg(long, value_name = "MODE")]
    pub(crate) manage_cgroups_mode: Option<String>,
    /// leave out what is in the namespace; only 'network', which always is
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) empty_ns: Vec<String>,
    /// keep memory that is in several image files in one of them only
    #[arg(long)]
    pub(crate) auto_dedup: bool,
}

#[derive(Debug, clap::Args)]
#[command(long_about = DESCRIBES_CHECKPOINT, after_help = EXPLAINS_ID)]
pub(crate) struct CheckpointArgs {
    #[command(flatten)]
    pub(crate) criu: CriuArgs,
    /// directory of the image files of the pre-dump before this, seen from that of this one's
    #[arg(long, value_name = "DIR")]
    pub(crate) parent_path: Option<OsString>,
    /// leave the container running
    #[arg(long)]
    pub(crate) leave_running: bool,
    /// leave out TCP connections that are being made
    #[arg(long)]
    pub(crate) tcp_skip_in_flight: bool,
    /// link files again that were deleted and are still open
    #[arg(long)]
    pub(crate) link_remap: bool,
    /// file descriptor to which a NUL byte is written once lazy pages can be fetched
    #[arg(long, value_name = "FD", default_value = "-1", value_parser = number::<i32>)]
    pub(crate) status_fd: i32,
    /// send memory to the page server there instead of writing it to files
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) page_server: Option<String>,
    /// store only memory and leave the container running
    #[arg(long)]
    pub(crate) pre_dump: bool,
    /// name of the container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}

#[derive(Debug, clap::Args)]
#[command(long_about = DESCRIBES_RESTORE, after_help = EXPLAINS_NEW_ID)]
pub(crate) struct RestoreArgs {
    /// directory of the bundle; the current directory if not given
    #[arg(long, short, value_name = "DIR")]
    pub(crate) bundle: Option<OsString>,
    /// AF_UNIX socket to which the controlling side of the container's terminal is sent
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<OsString>,
    /// do not wait for the container's process
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// file to write the process id of the container's init process to
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<OsString>,
    /// do not become the parent of the container's orphaned processes
    #[arg(long)]
    pub(crate) no_subreaper: bool,
    /// without effect: CRIU changes the root
    #[arg(long)]
    pub(crate) no_pivot: bool,
    #[command(flatten)]
    pub(crate) criu: CriuArgs,
    #[command(flatten)]
    pub(crate) devices: DeviceArgs,
    /// security profile to use instead of that in the image files, as "apparmor:NAME"
    #[arg(long, value_name = "TYPE:NAME")]
    pub(crate) lsm_profile: Option<String>,
    /// SELinux context of the mounts, instead of that in the image files
    #[arg(long, value_name = "CONTEXT")]
    pub(crate) lsm_mount_context: Option<String>,
    /// name of the new container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}

#[derive(Debug, clap::Args)]
#[command(
    long_about = "Runs a further process in a created or running container. It is the process of \
                  the bundle's\n\"config.json\" with <command> as its program and no terminal, \
                  unless the options say otherwise;\nor, with --process, the one in that file, \
                  and then the options that describe a process have\nno effect.",
    after_help = "<container-id> is the name the container was created with. Everything after it \
                  belongs to the\ncommand.\n\nEXIT STATUS:\n\
                  That of the command, 128 and the number of the signal that ended it, or 255 if \
                  it could not be\nrun. 0 with --detach.\n\nEXAMPLE:\n\
                  To see the processes of the container \"ubuntu01\":\n\n       \
                  # teu exec ubuntu01 ps"
)]
pub(crate) struct ExecArgs {
    /// AF_UNIX socket to which the controlling side of the process's terminal is sent
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<OsString>,
    /// AF_UNIX socket to which a pidfd of the process is sent
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<OsString>,
    /// working directory in the container
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,
    /// add an environment variable; may be given several times
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// give the process a terminal
    #[arg(long, short)]
    pub(crate) tty: bool,
    /// user, and group if given, by number or by the container's name for it
    #[arg(long, short, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// add a supplementary group; may be given several times
    #[arg(long, short = 'g', value_name = "GID", value_parser = number::<u32>)]
    pub(crate) additional_gids: Vec<u32>,
    /// file with the process to run, as JSON like process in "config.json"
    #[arg(long, short, value_name = "FILE")]
    pub(crate) process: Option<OsString>,
    /// do not wait for the process
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// file to write the process id of the process to
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<OsString>,
    /// SELinux label of the process
    #[arg(long, value_name = "LABEL")]
    pub(crate) process_label: Option<String>,
    /// AppArmor profile of the process
    #[arg(long, value_name = "PROFILE")]
    pub(crate) apparmor: Option<String>,
    /// let neither the process nor its children gain privileges by execve(2)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) no_new_privs: Option<bool>,
    /// add a capability; may be given several times
    #[arg(long, short, value_name = "CAPABILITY")]
    pub(crate) cap: Vec<String>,
    /// pass N more file descriptors to the process, beyond standard input, output and error
    #[arg(long, value_name = "N", default_value = "0", value_parser = number::<u32>)]
    pub(crate) preserve_fds: u32,
    /// run in a cgroup below the container's, of all controllers or of those given; may be given
    /// several times
    #[arg(long, value_name = "[CONTROLLER[,CONTROLLER...]:]PATH")]
    pub(crate) cgroup: Vec<String>,
    /// in a paused container, wait until it is resumed
    #[arg(long)]
    pub(crate) ignore_paused: bool,
    /// name of the container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
    /// program to run, and its arguments
    #[arg(value_name = "command")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
#[command(
    long_about = "Sends a signal to the process that the container began with.",
    after_help = "<container-id> is the name the container was created with. [signal] is a number \
                  or a name, with or\nwithout SIG; SIGTERM if not given. Everything after the \
                  container's name is read as the signal.\n\nEXAMPLE:\n\
                  To send SIGKILL to the container \"ubuntu01\":\n\n       # teu kill ubuntu01 KILL"
)]
pub(crate) struct KillArgs {
    /// succeed also if the container does not run
    #[arg(long, short, hide = true)]
    pub(crate) all: bool,
    /// name of the container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
    /// signal to send
    #[arg(value_name = "signal")]
    pub(crate) signal: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(
    long_about = "Deletes containers whose program has ended or was never started, with their \
                  state, their cgroups\nand what else is held for them.",
    after_help = "Each <container-id> is the name a container was created with.\n\nEXAMPLE:\n\
                  To delete the stopped container \"ubuntu01\":\n\n       # teu delete ubuntu01\n\n\
                  To delete every container that has stopped:\n\n       \
                  # teu delete $(teu list -q --filter status=stopped)"
)]
pub(crate) struct DeleteArgs {
    /// also delete a container that still runs, with SIGKILL, and one that does not exist
    #[arg(long, short)]
    pub(crate) force: bool,
    /// names of the containers
    #[arg(required = true, value_name = "container-id")]
    pub(crate) ids: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(
    long_about = "Shows the devices that files of the Container Device Interface (CDI) describe, which \
                  containers get\nby their names with --device. \"list\" prints the names and where \
                  they come from, \"inspect\" what\nthe devices of the names given bring, and \
                  \"validate\" what is wrong with the files given, or with\nall that are found.",
    after_help = "EXIT STATUS:\n\
                  1 if a file is wrong (validate) or a device unknown (inspect).\n\nEXAMPLE:\n\
                  To see what the device \"vendor.com/gpu=0\" would bring:\n\n       \
                  # teu devices inspect vendor.com/gpu=0"
)]
pub(crate) struct DevicesArgs {
    #[command(flatten)]
    pub(crate) cdi: CdiArgs,
    /// print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// 'list', 'validate' or 'inspect'
    #[arg(value_name = "action")]
    pub(crate) action: String,
    /// names of devices to inspect, or files to validate
    #[arg(value_name = "name")]
    pub(crate) names: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
#[command(
    long_about = "\"list\" prints the GPUs of this machine. \"check\" looks for what is wrong with \
                  them, their driver and the\nCDI files, or, with a container, with the devices \
                  that it was given: whether they are there and\nwhether the kernel lets it use \
                  them; each line is something wrong and what to do about it.\n\"cdi\" writes \
                  a CDI file of them, for engines that read such files. It is made for images \
                  of\nthe same family (Debian's, or others) as this machine.",
    after_help = "<container-id> is the name the container was created with; only for check.\n\n\
                  EXIT STATUS:\n1 if something is wrong (check).\n\nEXAMPLES:\n\
                  To write a CDI file where engines look for it:\n\n       \
                  # teu gpu cdi --output /etc/cdi/nvidia.yaml\n\n\
                  To see why the container \"my-box\" does not reach its GPU:\n\n       \
                  # teu gpu check my-box"
)]
pub(crate) struct GpuArgs {
    #[command(flatten)]
    pub(crate) cdi: CdiArgs,
    #[command(flatten)]
    pub(crate) driver: DriverArgs,
    /// print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// write to FILE, which is replaced as a whole; as JSON if its name ends in ".json" (cdi)
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<OsString>,
    /// only GPUs of 'nvidia', 'amd', 'intel' or, for any other with nodes in /dev/dri, 'drm' (cdi)
    #[arg(long, value_name = "VENDOR")]
    pub(crate) vendor: Option<String>,
    /// what NVIDIA's driver will be used for, with commas: compute, utility, graphics, video,
    /// display, ngx, compat32, or all (cdi)
    #[arg(long, value_name = "LIST", default_value = "compute,utility")]
    pub(crate) capabilities: String,
    /// 'list', 'check' or 'cdi'
    #[arg(value_name = "action")]
    pub(crate) action: String,
    /// name of the container to check
    #[arg(value_name = "container-id")]
    pub(crate) id: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(
    long_about = "Prints the containers that have their state below the root, with their status \
                  and bundle.",
    after_help = "The root is that of the global option --root.\n\nEXAMPLES:\n\
                  To list the containers below the default root:\n\n       # teu list\n\n\
                  To print the names of the containers that have stopped:\n\n       \
                  # teu list -q --filter status=stopped"
)]
pub(crate) struct ListArgs {
    /// 'table' or 'json'
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: String,
    /// print only the names of the containers
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// only containers whose status, bundle or annotation KEY is VALUE; may be given several
    /// times, and then all must hold
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(
    long_about = "Prints the processes of the container as the ps of this machine shows them.",
    after_help = "<container-id> is the name the container was created with. Everything after it \
                  is for ps; \"-ef\" if\nnothing is given. One of the columns must be PID."
)]
pub(crate) struct PsArgs {
    /// 'table' or 'json'
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: String,
    /// name of the container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
    /// options for ps
    #[arg(value_name = "ps options")]
    pub(crate) args: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
#[command(
    long_about = "Writes a specification file named \"config.json\" to begin with. Its program is \
                  \"sh\", its root\nfilesystem the directory \"rootfs\" of the bundle; edit the \
                  file to your needs. A file that exists\nis never overwritten.\n\n\
                  Running a container needs root privileges, unless the \
                  specification was written with --rootless:\nthen the container's root is the \
                  user who wrote it. As root of a user namespace that an\nunprivileged user \
                  made, --rootless is not needed.\n\nEXAMPLE:\n\
                  To run the program \"/hello\" from an archive of a root filesystem:\n\n    \
                  mkdir -p hello/rootfs\n    cd hello\n    tar -C rootfs -xf ../hello.tar\n    \
                  teu spec\n    sed -i 's;\"sh\";\"/hello\";' config.json\n    \
                  teu run container1"
)]
pub(crate) struct SpecArgs {
    /// directory of the bundle; the current directory if not given
    #[arg(long, short, value_name = "DIR")]
    pub(crate) bundle: Option<OsString>,
    /// write a specification that runs without root privileges
    #[arg(long)]
    pub(crate) rootless: bool,
}

#[derive(Debug, clap::Args)]
#[command(
    long_about = "Shows the CPU time, memory, processes and block I/O of the containers that run, \
                  until they have\nended. On a terminal the table is drawn again in its place; \
                  elsewhere each look is a line of JSON.\n\nCPU % is that of one processor, so \
                  that two busy ones make 200. MEMORY leaves out pages of files\nthat have not \
                  been used for a while. READ and WRITTEN are bytes since the container was \
                  created.",
    after_help = "Each <container-id> is the name a container was created with; all that run, if \
                  none is given.\n\nEXAMPLE:\n\
                  To write the numbers of the container \"ubuntu01\" to a file every ten \
                  seconds:\n\n       # teu stats --interval 10s ubuntu01 >numbers"
)]
pub(crate) struct StatsArgs {
    /// 'table' or 'json' (default: as standard output is a terminal or not)
    #[arg(long, short, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// time from one look to the next, such as '500ms' or '1m'
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    pub(crate) interval: String,
    /// look once and exit
    #[arg(long)]
    pub(crate) no_stream: bool,
    /// names of the containers
    #[arg(value_name = "container-id")]
    pub(crate) ids: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(
    long_about = "Prints lines of JSON until the container ends: of the type \"stats\" in \
                  intervals, and of the type\n\"oom\" for each process that the kernel kills \
                  because the container's memory is used up.",
    after_help = EXPLAINS_ID
)]
pub(crate) struct EventsArgs {
    /// time between statistics, such as '100ms' or '1m30s'
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub(crate) interval: String,
    /// print statistics once and exit
    #[arg(long)]
    pub(crate) stats: bool,
    /// name of the container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}

#[derive(Debug, clap::Args)]
#[command(
    long_about = "Changes the limits of a created, running or paused container, and the devices \
                  that it was given.\nWhat is not named stays as it is. If one of the new limits is refused, all old ones \
                  stay in force.\n\nWith --resources limits come from a file, as JSON like linux.resources \
                  in \"config.json\":\n\n    \
                  {\n      \"memory\": {\"limit\": 67108864, \"reservation\": 33554432},\n      \
                  \"cpu\": {\"shares\": 512, \"quota\": 50000, \"period\": 100000,\n\
                  \x20             \"cpus\": \"0-1\"},\n      \
                  \"pids\": {\"limit\": 100},\n      \
                  \"blockIO\": {\"weight\": 500},\n      \
                  \"devices\": [{\"allow\": true, \"type\": \"c\", \"major\": 10, \"minor\": 229,\n\
                  \x20                  \"access\": \"rwm\"}]\n    }\n\nAny part may be left out. Rules and rates for a \
                  device are added to those it has, or replace them.",
    after_help = "<container-id> is the name the container was created with.\n\nEXAMPLE:\n\
                  To give the container \"ubuntu01\" a device, and to take it away:\n\n       \
                  # teu update --device-add vendor.com/gpu=0 ubuntu01\n       \
                  # teu update --device-rm vendor.com/gpu=0 ubuntu01"
)]
pub(crate) struct UpdateArgs {
    /// read the limits from FILE, or from standard input for '-'; other options for limits have
    /// no effect then
    #[arg(long, short, value_name = "FILE")]
    pub(crate) resources: Option<OsString>,
    /// share of block I/O, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub(crate) blkio_weight: Option<String>,
    /// microseconds after which the CPU quota begins anew
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_period: Option<String>,
    /// microseconds of CPU time in a period; -1 for no limit
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_quota: Option<String>,
    /// microseconds of unused CPU time that may be saved up
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_burst: Option<String>,
    /// share of CPU time against other cgroups, 2 to 262144
    #[arg(long, value_name = "SHARES")]
    pub(crate) cpu_share: Option<String>,
    /// microseconds after which the real-time budget begins anew (cgroup v1)
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_rt_period: Option<String>,
    /// microseconds of real-time scheduling in a period (cgroup v1)
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_rt_runtime: Option<String>,
    /// CPUs to run on, such as '0-2,7'
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// memory nodes to take memory from, such as '0-1'
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// obsolete, without effect
    #[arg(long, value_name = "BYTES", hide = true)]
    pub(crate) kernel_memory: Option<String>,
    /// obsolete, without effect
    #[arg(long, value_name = "BYTES", hide = true)]
    pub(crate) kernel_memory_tcp: Option<String>,
    /// memory, as a number with or without a unit such as '50M'; -1 for no limit
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory: Option<String>,
    /// memory that is left to the container when memory is short, like --memory
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory_reservation: Option<String>,
    /// memory and swap together, like --memory
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory_swap: Option<String>,
    /// number of processes and threads; -1 for no limit
    #[arg(long, value_name = "NUMBER")]
    pub(crate) pids_limit: Option<String>,
    /// part of the L3 cache (Intel RDT), such as 'L3:0=7f0;1=1f'
    #[arg(long, value_name = "SCHEMA")]
    pub(crate) l3_cache_schema: Option<String>,
    /// memory bandwidth (Intel RDT), such as 'MB:0=20;1=70'
    #[arg(long, value_name = "SCHEMA")]
    pub(crate) mem_bw_schema: Option<String>,
    /// 1 to run only when nothing else wants to, 0 not to
    #[arg(long, value_name = "0|1")]
    pub(crate) cpu_idle: Option<String>,
    /// give the container a device: '/dev/PATH' or '/dev/PATH:PATH-INSIDE:rwm' of the host's, or a
    /// CDI name; may be given several times
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device_add: Vec<String>,
    /// take a device away that was given like that or with 'create --device': its path in the
    /// container, or its CDI name; may be given several times
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device_rm: Vec<String>,
    #[command(flatten)]
    pub(crate) cdi: CdiArgs,
    #[command(flatten)]
    pub(crate) driver: DriverArgs,
    /// 'all' refuses a device that has hooks, since they run when a container is made; 'none' gives
    /// it without them
    #[arg(long, value_name = "WHICH", default_value = "all")]
    pub(crate) cdi_hooks: String,
    /// which device nodes CDI files may give: 'usual' or 'any', also disks and memory
    #[arg(long, value_name = "WHICH", default_value = "usual")]
    pub(crate) cdi_devices: String,
    /// name of the container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}

/// Reads a number as Go's `strconv.ParseInt` with base 0 does: decimal, or
/// with a prefix hexadecimal, octal or binary.
fn number<T: TryFrom<i64, Error: Display>>(text: &str) -> Result<T, String> {
    let (sign, digits) = match text.as_bytes() {
        [b'-', ..] => ("-", &text[1..]),
        [b'+', ..] => ("", &text[1..]),
        _ => ("", text),
    };
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&digits[2..], 16),
        [b'0', b'o' | b'O', ..] => (&digits[2..], 8),
        [b'0', b'b' | b'B', ..] => (&digits[2..], 2),
        [b'0', _, ..] => (&digits[1..], 8),
        _ => (digits, 10),
    };
    if digits.starts_with(['+', '-']) {
        return Err("invalid digit found in string".to_owned());
    }
    let number = i64::from_str_radix(&format!("{sign}{digits}"), radix);
    let number = number.map_err(|err| err.to_string())?;
    T::try_from(number).map_err(|err| err.to_string())
}
