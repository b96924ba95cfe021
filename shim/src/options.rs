//! The options of the runtime: read from a caller in three formats, and saved in the bundle
//! for later commands.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::proto::options::runc;
use crate::proto::options::runtime;
use crate::proto::{Any, Named};
use crate::regular;

pub use runc::Options;

/// The default for the runtime's states. containerd's own shim has the same, and other
/// programs look there.
const DEFAULT_ROOT: &str = "/run/containerd/runc";

/// The name of the file in the bundle, as containerd's own shim names it.
const FILE: &str = "options.json";

impl Options {
    /// Reads a caller's options. Clients and CRI send runc's message to a runtime called
    /// `runc`. To other runtimes, CRI and dockerd send TOML, or nothing.
    ///
    /// # Errors
    /// The options have another type, or cannot be decoded.
    pub fn read(any: Option<&Any>) -> Result<Options> {
        let Some(any) = any.filter(|any| !any.type_url.is_empty()) else {
            return Ok(Options::default());
        };
        if let Some(options) = any.decode_as::<Options>() {
            return options.context("read the runtime's options");
        }
        match any.decode_as::<runtime::Options>() {
            Some(options) => Options::from_toml(&options.context("read the runtime's options")?),
            None => bail!("options of an unknown type: {:?}", any.type_url),
        }
    }

    /// Whether the message has one of the types that [`Options::read`] knows.
    pub(crate) fn is_in(any: &Any) -> bool {
        [Options::NAME, runtime::Options::NAME].contains(&any.name())
    }

    /// Reads TOML. CRI puts the contents of its own configuration into the body, which may
    /// have fields that runc does not know. With a path there is no body.
    fn from_toml(options: &runtime::Options) -> Result<Options> {
        if !options.config_body.is_empty() {
            return basic_toml::from_slice(&options.config_body)
                .context("read the runtime's options as TOML");
        }
        if options.config_path.is_empty() {
            return Ok(Options::default());
        }
        let file = regular::read(Path::new(&options.config_path))?;
        basic_toml::from_slice(&file)
            .with_context(|| format!("read {:?} as TOML", options.config_path))
    }

    /// Reads the options that [`Options::save`] wrote; without a file, the defaults.
    ///
    /// # Errors
    /// The file cannot be read or decoded.
    pub fn saved(bundle: &Path) -> Result<Options> {
        let path = bundle.join(FILE);
        match fs::read(&path) {
            // The server was killed before it wrote the options, so there is no container.
            Ok(json) if json.is_empty() => Ok(Options::default()),
            Ok(json) => serde_json::from_slice(&json).with_context(|| format!("read {path:?}")),
            Err(err) if err.kind() == ErrorKind::NotFound => Ok(Options::default()),
            Err(err) => Err(err).with_context(|| format!("read {path:?}")),
        }
    }

    /// Saves the options in the bundle, for `delete`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, bundle: &Path) -> Result<()> {
        let path = bundle.join(FILE);
        let json = serde_json::to_vec(self)?;
        // O_NONBLOCK, because opening a fifo in that place would block the server.
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path);
        file.and_then(|mut file| file.write_all(&json))
            .with_context(|| format!("write {path:?}"))
    }

    /// The directory for the states of a namespace's containers (`--root`).
    pub fn state_root(&self, namespace: &str) -> PathBuf {
        let root = match self.root.as_str() {
            "" => DEFAULT_ROOT,
            root => root,
        };
        Path::new(root).join(namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime_options(body: &str, path: &str) -> Any {
        Any::new(&runtime::Options {
            type_url: String::new(),
            config_path: path.to_owned(),
            config_body: body.into(),
        })
    }

    #[test]
    fn options_come_in_three_shapes() {
        assert_eq!(Options::read(None).unwrap(), Options::default());
        assert_eq!(
            Options::read(Some(&Any::default())).unwrap(),
            Options::default()
        );

        let options = Options {
            binary_name: "crun".to_owned(),
            systemd_cgroup: true,
            io_uid: 1000,
            ..Options::default()
        };
        assert_eq!(Options::read(Some(&Any::new(&options))).unwrap(), options);

        // As go-toml 1 and 2 write it, among other settings of CRI's configuration.
        for body in [
            "\nBinaryName = \"crun\"\nIoUid = 1000\nSystemdCgroup = true\nTypeUrl = \"x\"\n",
            "BinaryName = 'crun'\nIoUid = 1000\nSystemdCgroup = true\n\n[Other]\n  A = [1, 2]\n",
        ] {
            assert_eq!(
                Options::read(Some(&runtime_options(body, ""))).unwrap(),
                options
            );
        }
    }

    #[test]
    fn options_may_be_in_a_file() {
        let path = std::env::temp_dir().join(format!("teu-shim-options-{}", std::process::id()));
        fs::write(&path, "Root = \"/run/other\"\nNoPivotRoot = true\n").unwrap();
        let options = Options::read(Some(&runtime_options("", path.to_str().unwrap())));
        fs::remove_file(&path).unwrap();
        let options = options.unwrap();
        assert!(options.no_pivot_root);
        assert_eq!(options.state_root("ns"), Path::new("/run/other/ns"));

        let gone = Options::read(Some(&runtime_options("", path.to_str().unwrap())));
        assert!(gone.unwrap_err().to_string().starts_with("read \"/"));
    }

    #[test]
    fn options_of_others_are_refused() {
        let any = Any {
            type_url: "other.v1.Options".to_owned(),
            value: Vec::new(),
        };
        assert_eq!(
            Options::read(Some(&any)).unwrap_err().to_string(),
            "options of an unknown type: \"other.v1.Options\""
        );
        for body in ["SystemdCgroup = 7", "{}"] {
            assert!(
                Options::read(Some(&runtime_options(body, ""))).is_err(),
                "{body}"
            );
        }
        let any = Any {
            type_url: "containerd.runc.v1.Options".to_owned(),
            value: vec![0xff],
        };
        assert!(Options::read(Some(&any)).is_err());
    }

    #[test]
    fn saved_options_are_what_containerds_shim_reads() {
        let bundle = std::env::temp_dir().join(format!("teu-shim-saved-{}", std::process::id()));
        fs::create_dir(&bundle).unwrap();
        assert_eq!(Options::saved(&bundle).unwrap(), Options::default());
        fs::write(bundle.join("options.json"), "").unwrap();
        assert_eq!(Options::saved(&bundle).unwrap(), Options::default());
        let options = Options {
            binary_name: "crun".to_owned(),
            ..Options::default()
        };
        options.save(&bundle).unwrap();
        let json = fs::read_to_string(bundle.join("options.json")).unwrap();
        let saved = Options::saved(&bundle);
        fs::remove_dir_all(&bundle).unwrap();
        assert!(json.contains("\"binary_name\":\"crun\""), "{json}");
        assert_eq!(saved.unwrap(), options);
    }
}
