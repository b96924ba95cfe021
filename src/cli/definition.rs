//! The definition of the command line: every command, its flags and its help.
//!
//! clap parses a command line by it, after `go.rs` has converted runc's spellings to clap's.
//! Man pages and completions are made from it as well (`examples/docs.rs`), so this file uses
//! only clap and the standard library. The structs have no doc comments, because clap would
//! use them as the help of their commands.

use std::ffi::OsString;
use std::fmt::Display;

const DESCRIBES_TEU: &str = "\
teu runs containers that are packaged by the Open Container Initiative's
specification. It makes a container from a bundle and leaves everything else to
its caller: an engine such as containerd, CRI-O or Podman, or you.

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

const DESCRIBES_CHECKPOINT: &str = "Saves the processes of a running container in image files, with \
criu(8). The container is then\ndeleted, unless --leave-running is given; \"teu restore\" restores it.";

const DESCRIBES_RESTORE: &str = "Restores a container from the image files of \
\"teu checkpoint\". The bundle must be that of the\nsaved container, because its root filesystem is \
not in the image files.";

/// The whole command line.
#[derive(Debug, clap::Parser)]
#[command(
    name = "teu",
    about = "Open Container Initiative runtime",
    long_about = DESCRIBES_TEU,
    // If a flag is repeated, the last counts.
    args_override_self = true,
    // GlobalArgs defines the flag.
    disable_version_flag = true,
    // Lines of help are not wrapped.
    term_width = 0
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// The command with its options. clap builds flags and texts only for the command that was
/// typed (`defer`).
#[derive(Debug, clap::Subcommand)]
#[command(defer = true)]
#[allow(clippy::large_enum_variant, reason = "a process has a single value")]
pub(crate) enum Command {
    /// save a running container in files
    Checkpoint(CheckpointArgs),
    /// create a container
    Create(CreateArgs),
    /// delete containers and everything that was made for them
    Delete(DeleteArgs),
    /// show the devices that CDI files describe
    Devices(DevicesArgs),
    /// show a container's statistics and OOM kills as JSON
    Events(EventsArgs),
    /// run a further process in a container
    Exec(ExecArgs),
    /// show what this runtime supports
    #[command(
        long_about = "Prints what this runtime supports as JSON, as features.md of the runtime \
                      specification defines it."
    )]
    Features,
    /// show the GPUs of this machine and their problems
    Gpu(GpuArgs),
    /// send a signal to the container's init process
    Kill(KillArgs),
    /// list the containers below the given root
    List(ListArgs),
    /// pause all processes of a container
    #[command(
        long_about = "Pauses all processes of the container until \"teu resume\".",
        after_help = EXPLAINS_ID
    )]
    Pause(ContainerArgs),
    /// show the processes of a container
    Ps(PsArgs),
    /// restore a container from files
    Restore(RestoreArgs),
    /// resume a paused container
    #[command(
        long_about = "Resumes the processes of a container that \"teu pause\" has paused.",
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
    /// show the resource usage of containers
    Stats(StatsArgs),
    /// change the limits of a container
    Update(UpdateArgs),
}

// The global flags, which come before the command or after it.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct GlobalArgs {
    /// write debug messages to the log
    #[arg(long)]
    pub(crate) debug: bool,
    /// append log messages to FILE instead of writing them to standard error
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<OsString>,
    /// format of log messages: 'text' or 'json'
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: OsString,
    /// append the duration of each step to FILE, as Chrome's trace events, which Perfetto shows
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<OsString>,
    /// directory that holds the state of the containers; best on a tmpfs (default: "/run/teu", or
    /// "$XDG_RUNTIME_DIR/teu" without privileges)
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<OsString>,
    /// let systemd make the cgroups; cgroupsPath then has the form "slice:prefix:name", for example
    /// "system.slice:teu:434234"
    #[arg(long)]
    pub(crate) systemd_cgroup: bool,
    /// how cgroups are made: 'cgroupfs' (by teu itself), 'systemd', or 'disabled', which leaves the
    /// container in the cgroup of its caller (default: 'cgroupfs', or 'systemd' with
    /// --systemd-cgroup)
    #[arg(long, value_name = "MANAGER")]
    pub(crate) cgroup_manager: Option<String>,
    /// continue if permission for cgroups is missing: 'auto', 'true' or 'false'
    #[arg(long, value_name = "VALUE", default_value = "auto")]
    pub(crate) rootless: String,
    /// print the version
    #[arg(long, short = 'v')]
    pub(crate) version: bool,
}

// The flags of `create` and `run` for a new container.
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
    /// pass N more file descriptors to the container, in addition to standard input, output, error
    /// and those of $LISTEN_FDS
    #[arg(long, value_name = "N", default_value = "0", value_parser = number::<u32>)]
    pub(crate) preserve_fds: u32,
    #[command(flatten)]
    pub(crate) devices: DeviceArgs,
}

// The directories of CDI files, for all commands that search devices.
#[derive(Debug, clap::Args)]
pub(crate) struct CdiArgs {
    /// directory of CDI files; may be given several times, and later directories take precedence
    /// (default: "/etc/cdi" and "/var/run/cdi")
    #[arg(long, value_name = "DIR")]
    pub(crate) cdi_dir: Vec<OsString>,
}

// The directory of drivers, for all commands that search GPUs.
#[derive(Debug, clap::Args)]
pub(crate) struct DriverArgs {
    /// root directory of the GPU driver's libraries and programs; "/" if not given
    #[arg(long, value_name = "DIR")]
    pub(crate) driver_root: Option<OsString>,
}

// The devices of a new container, for all commands that make containers.
#[derive(Debug, clap::Args)]
pub(crate) struct DeviceArgs {
    /// add a device that a CDI file describes; may be given several times
    #[arg(long, value_name = "VENDOR/CLASS=NAME")]
    pub(crate) device: Vec<String>,
    #[command(flatten)]
    pub(crate) cdi: CdiArgs,
    /// hooks of CDI devices: 'all' runs them, 'known' does the work of NVIDIA hooks without running
    /// them and refuses others, 'none' refuses devices with hooks
    #[arg(long, value_name = "WHICH", default_value = "all")]
    pub(crate) cdi_hooks: String,
    /// device nodes that CDI files may add: 'usual', or 'any', which includes disks and memory
    #[arg(long, value_name = "WHICH", default_value = "usual")]
    pub(crate) cdi_devices: String,
    /// also add the devices that annotations "cdi.k8s.io/..." request
    #[arg(long)]
    pub(crate) cdi_annotations: bool,
    /// add GPUs: 'all', a count, or a list such as '0,1' or 'GPU-...' (a single number is a count;
    /// 'device=0' is the first GPU)
    #[arg(long, value_name = "WHICH")]
    pub(crate) gpus: Option<String>,
    #[command(flatten)]
    pub(crate) driver: DriverArgs,
    /// the hook that Docker adds for --gpus: 'take' adds the requested GPUs without the hook, 'keep'
    /// runs it, 'refuse' refuses the container (default: 'take' if an NVIDIA driver is loaded, else
    /// 'keep')
    #[arg(long, value_name = "WHAT")]
    pub(crate) nvidia_hook: Option<String>,
    /// when NVIDIA_VISIBLE_DEVICES and AMD_VISIBLE_DEVICES, which images may set, request GPUs:
    /// 'never', 'privileged' (with CAP_SYS_ADMIN) or 'always'
    #[arg(long, value_name = "WHEN", default_value = "never")]
    pub(crate) gpu_env: String,
}

// The options of a command that needs only a container.
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

// The flags of `checkpoint` and `restore` for CRIU.
#[derive(Debug, clap::Args)]
pub(crate) struct CriuArgs {
    /// directory of the image files (default: "checkpoint" in the current directory)
    #[arg(long, value_name = "DIR")]
    pub(crate) image_path: Option<OsString>,
    /// directory of CRIU's log and other work files (default: that of the image files)
    #[arg(long, value_name = "DIR")]
    pub(crate) work_path: Option<OsString>,
    /// allow open TCP connections
    #[arg(long)]
    pub(crate) tcp_established: bool,
    /// allow sockets that are connected to sockets outside of the container
    #[arg(long)]
    pub(crate) ext_unix_sk: bool,
    /// allow a terminal or session of the caller
    #[arg(long)]
    pub(crate) shell_job: bool,
    /// transfer memory only when it is used, through userfaultfd(2)
    #[arg(long)]
    pub(crate) lazy_pages: bool,
    /// allow file locks
    #[arg(long)]
    pub(crate) file_locks: bool,
    /// mode of CRIU for cgroups: 'soft', 'full', 'strict' or 'ignore' (default: "soft")
    #[arg(long, value_name = "MODE")]
    pub(crate) manage_cgroups_mode: Option<String>,
    /// omit the contents of the namespace; only 'network', which is always omitted
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) empty_ns: Vec<String>,
    /// store memory that is in several image files in only one of them
    #[arg(long)]
    pub(crate) auto_dedup: bool,
}

#[derive(Debug, clap::Args)]
#[command(long_about = DESCRIBES_CHECKPOINT, after_help = EXPLAINS_ID)]
pub(crate) struct CheckpointArgs {
    #[command(flatten)]
    pub(crate) criu: CriuArgs,
    /// directory of the image files of the previous pre-dump, relative to --image-path
    #[arg(long, value_name = "DIR")]
    pub(crate) parent_path: Option<OsString>,
    /// leave the container running
    #[arg(long)]
    pub(crate) leave_running: bool,
    /// omit TCP connections that are being established
    #[arg(long)]
    pub(crate) tcp_skip_in_flight: bool,
    /// link deleted files again that are still open
    #[arg(long)]
    pub(crate) link_remap: bool,
    /// file descriptor to which a NUL byte is written when lazy pages can be fetched
    #[arg(long, value_name = "FD", default_value = "-1", value_parser = number::<i32>)]
    pub(crate) status_fd: i32,
    /// send memory to the page server at ADDRESS:PORT instead of writing it to files
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) page_server: Option<String>,
    /// save only memory and leave the container running
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
    /// no effect, because CRIU changes the root
    #[arg(long)]
    pub(crate) no_pivot: bool,
    #[command(flatten)]
    pub(crate) criu: CriuArgs,
    #[command(flatten)]
    pub(crate) devices: DeviceArgs,
    /// security profile that replaces the profile in the image files, as "apparmor:NAME"
    #[arg(long, value_name = "TYPE:NAME")]
    pub(crate) lsm_profile: Option<String>,
    /// SELinux context of the mounts, which replaces the context in the image files
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
                  unless the options say otherwise.\nWith --process it is the process in that file, \
                  and options that describe a process have no effect.",
    after_help = "<container-id> is the name the container was created with. Everything after it \
                  belongs to the\ncommand.\n\nEXIT STATUS:\n\
                  The exit status of the command, 128 and the number of the signal that killed it, or 255 if \
                  it could\nnot be run. 0 with --detach.\n\nEXAMPLE:\n\
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
    /// user, and group if given, by number or by name in the container
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
    /// prevent the process and its children from gaining privileges by execve(2)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) no_new_privs: Option<bool>,
    /// add a capability; may be given several times
    #[arg(long, short, value_name = "CAPABILITY")]
    pub(crate) cap: Vec<String>,
    /// pass N more file descriptors to the process, in addition to standard input, output and error
    #[arg(long, value_name = "N", default_value = "0", value_parser = number::<u32>)]
    pub(crate) preserve_fds: u32,
    /// run in a cgroup below the container's, for all controllers or for those given; may be given
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
    long_about = "Sends a signal to the first process of the container.",
    after_help = "<container-id> is the name the container was created with. [signal] is a number \
                  or a name, with or\nwithout SIG; SIGTERM if not given. Everything after the \
                  container's name is read as the signal.\n\nEXAMPLE:\n\
                  To send SIGKILL to the container \"ubuntu01\":\n\n       # teu kill ubuntu01 KILL"
)]
pub(crate) struct KillArgs {
    /// succeed if the container is not running
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
                  state, their cgroups\nand everything else that teu made for them.",
    after_help = "Each <container-id> is the name a container was created with.\n\nEXAMPLE:\n\
                  To delete the stopped container \"ubuntu01\":\n\n       # teu delete ubuntu01\n\n\
                  To delete every container that has stopped:\n\n       \
                  # teu delete $(teu list -q --filter status=stopped)"
)]
pub(crate) struct DeleteArgs {
    /// kill the container with SIGKILL if it is running; succeed if it does not exist
    #[arg(long, short)]
    pub(crate) force: bool,
    /// names of the containers
    #[arg(required = true, value_name = "container-id")]
    pub(crate) ids: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(
    long_about = "Shows the devices that files of the Container Device Interface (CDI) describe. \
                  Containers get them by\ntheir names with --device. \"list\" prints the names and their \
                  files, \"inspect\" the edits of the named\ndevices, and \"validate\" the \
                  problems of the given files, or of all files found.",
    after_help = "EXIT STATUS:\n\
                  1 if a file is invalid (validate) or a device is unknown (inspect).\n\nEXAMPLE:\n\
                  To see the edits of the device \"vendor.com/gpu=0\":\n\n       \
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
    long_about = "\"list\" prints the GPUs of this machine. \"check\" finds problems of the GPUs, \
                  their driver and the CDI\nfiles, or, with a container, of the container's \
                  devices: whether they exist and whether the kernel\nallows to use them. Each \
                  line is a problem with advice. \"cdi\" writes a CDI file of the GPUs, for\n\
                  engines that read such files. It is made for images of the same family \
                  (Debian's, or others) as this\nmachine.",
    after_help = "<container-id> is the name the container was created with; only for check.\n\n\
                  EXIT STATUS:\n1 if there is a problem (check).\n\nEXAMPLES:\n\
                  To write a CDI file into a directory that engines read:\n\n       \
                  # teu gpu cdi --output /etc/cdi/nvidia.yaml\n\n\
                  To see why the container \"my-box\" cannot use its GPU:\n\n       \
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
    /// replace FILE by the output, in JSON if its name ends in ".json" (cdi)
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<OsString>,
    /// only GPUs of 'nvidia', 'amd', 'intel', or 'drm' for other vendors with nodes in /dev/dri (cdi)
    #[arg(long, value_name = "VENDOR")]
    pub(crate) vendor: Option<String>,
    /// files of NVIDIA's driver by their use, separated by commas: compute, utility, graphics, video,
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
    long_about = "Prints the containers with a state below the root directory, and their status \
                  and bundle.",
    after_help = "The global option --root names the root directory.\n\nEXAMPLES:\n\
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
    /// times, and all must match
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(
    long_about = "Prints the processes of the container in the format of this machine's ps(1).",
    after_help = "<container-id> is the name the container was created with. Everything after it \
                  is passed to ps,\nby default \"-ef\". One of the columns must be PID."
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
    long_about = "Writes a template of the specification file \"config.json\". Its program is \
                  \"sh\", its root\nfilesystem the directory \"rootfs\" of the bundle; edit the \
                  file to your needs. A file that exists\nis never overwritten.\n\n\
                  Running a container needs root privileges, unless the \
                  specification was written with --rootless:\nthen the container's root is the \
                  user who wrote it. The root user of a user namespace that\nan unprivileged user \
                  made does not need --rootless.\n\nEXAMPLE:\n\
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
    long_about = "Shows the CPU time, memory, processes and block I/O of running containers, \
                  until they have ended.\nOn a terminal it redraws a table; \
                  elsewhere it prints a line of JSON each time.\n\n\
                  CPU % refers to a single processor, so \
                  two busy processors make 200. MEMORY excludes pages of\nfiles that have not \
                  been used for a while. READ and WRITTEN are bytes since the container was \
                  created.",
    after_help = "Each <container-id> is the name a container was created with. The default is all running \
                  containers.\n\nEXAMPLE:\n\
                  To write the numbers of the container \"ubuntu01\" to a file every ten \
                  seconds:\n\n       # teu stats --interval 10s ubuntu01 >numbers"
)]
pub(crate) struct StatsArgs {
    /// 'table' or 'json' (default: 'table' if standard output is a terminal, else 'json')
    #[arg(long, short, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// time between updates, such as '500ms' or '1m'
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    pub(crate) interval: String,
    /// print once and exit
    #[arg(long)]
    pub(crate) no_stream: bool,
    /// names of the containers
    #[arg(value_name = "container-id")]
    pub(crate) ids: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(
    long_about = "Prints lines of JSON until the container ends: lines of the type \"stats\" in \
                  intervals, and a line of\nthe type \"oom\" for each process that the kernel \
                  OOM-kills.",
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
    long_about = "Changes the limits of a created, running or paused container, and its \
                  devices. Other limits stay\nas they are. If a new limit is refused, all old limits \
                  stay in force.\n\nWith --resources limits come from a file, as JSON like linux.resources \
                  in \"config.json\":\n\n    \
                  {\n      \"memory\": {\"limit\": 67108864, \"reservation\": 33554432},\n      \
                  \"cpu\": {\"shares\": 512, \"quota\": 50000, \"period\": 100000,\n\
                  \x20             \"cpus\": \"0-1\"},\n      \
                  \"pids\": {\"limit\": 100},\n      \
                  \"blockIO\": {\"weight\": 500},\n      \
                  \"devices\": [{\"allow\": true, \"type\": \"c\", \"major\": 10, \"minor\": 229,\n\
                  \x20                  \"access\": \"rwm\"}]\n    }\n\nAny part may be omitted. Rules and rates of \
                  devices are added, or replace those of the same device.",
    after_help = "<container-id> is the name the container was created with.\n\nEXAMPLE:\n\
                  To add a device to the container \"ubuntu01\", and to remove it:\n\n       \
                  # teu update --device-add vendor.com/gpu=0 ubuntu01\n       \
                  # teu update --device-rm vendor.com/gpu=0 ubuntu01"
)]
pub(crate) struct UpdateArgs {
    /// read the limits from FILE, or from standard input for '-'; then other options for limits have
    /// no effect
    #[arg(long, short, value_name = "FILE")]
    pub(crate) resources: Option<OsString>,
    /// share of block I/O, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub(crate) blkio_weight: Option<String>,
    /// length of the period of the CPU quota in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_period: Option<String>,
    /// microseconds of CPU time in a period; -1 for no limit
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_quota: Option<String>,
    /// microseconds of unused CPU time that may be saved up
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_burst: Option<String>,
    /// share of CPU time relative to other cgroups, 2 to 262144
    #[arg(long, value_name = "SHARES")]
    pub(crate) cpu_share: Option<String>,
    /// length of the period of the real-time budget in microseconds (cgroup v1)
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_rt_period: Option<String>,
    /// microseconds of real-time scheduling in a period (cgroup v1)
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_rt_runtime: Option<String>,
    /// CPUs to run on, such as '0-2,7'
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// memory nodes to allocate memory from, such as '0-1'
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// obsolete, no effect
    #[arg(long, value_name = "BYTES", hide = true)]
    pub(crate) kernel_memory: Option<String>,
    /// obsolete, no effect
    #[arg(long, value_name = "BYTES", hide = true)]
    pub(crate) kernel_memory_tcp: Option<String>,
    /// limit of memory, with or without a unit such as '50M'; -1 for no limit
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory: Option<String>,
    /// memory that the container keeps when the machine is short of memory, like --memory
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory_reservation: Option<String>,
    /// limit of memory and swap together, like --memory
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
    /// 1 to use only idle CPU time, 0 for normal scheduling
    #[arg(long, value_name = "0|1")]
    pub(crate) cpu_idle: Option<String>,
    /// add a device: '/dev/PATH' or '/dev/PATH:PATH-INSIDE:rwm' of the host, or a CDI name; may be
    /// given several times
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device_add: Vec<String>,
    /// remove a device that was added by --device-add or 'create --device': its path in the
    /// container, or its CDI name; may be given several times
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device_rm: Vec<String>,
    #[command(flatten)]
    pub(crate) cdi: CdiArgs,
    #[command(flatten)]
    pub(crate) driver: DriverArgs,
    /// 'all' refuses a device with hooks, because hooks run only when a container is made; 'none'
    /// adds it without its hooks
    #[arg(long, value_name = "WHICH", default_value = "all")]
    pub(crate) cdi_hooks: String,
    /// device nodes that CDI files may add: 'usual', or 'any', which includes disks and memory
    #[arg(long, value_name = "WHICH", default_value = "usual")]
    pub(crate) cdi_devices: String,
    /// name of the container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}

/// Parses a number as Go's `strconv.ParseInt` does with base 0: decimal, or with a prefix
/// hexadecimal, octal or binary.
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
