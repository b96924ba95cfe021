//! Reads the hooks: which programs run at which moment (config.md, "POSIX-platform Hooks").
//! `src/hook.rs` runs them, called by `parent/hooks.rs` and `init/hooks.rs`.

use core::num::NonZeroU32;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use oci_spec::runtime as spec;

use crate::prelude::*;

/// The hooks of each moment, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HooksPlan {
    pub prestart: Vec<Hook>,
    pub create_runtime: Vec<Hook>,
    pub create_container: Vec<Hook>,
    pub start_container: Vec<Hook>,
    pub poststart: Vec<Hook>,
    pub poststop: Vec<Hook>,
}

/// A program to run. state.json keeps it for moments after the creation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The absolute path of the program.
    pub path: PathBuf,
    /// The arguments, of which the first is the program's name; never empty.
    pub args: Vec<String>,
    /// The environment. `None` means the environment that hooks of the moment get by
    /// default. An empty list in config.json becomes `None`, because programs in Go cannot
    /// tell an empty list from a missing one.
    #[serde(deserialize_with = "Option::deserialize")]
    pub env: Option<Vec<String>>,
    /// The time in seconds after which the hook is killed.
    #[serde(deserialize_with = "Option::deserialize")]
    pub timeout: Option<NonZeroU32>,
}

impl HooksPlan {
    /// Reads and checks the hooks.
    ///
    /// # Errors
    /// Returns an error that names the hook if a path is not absolute, a timeout is not
    /// above zero, or a string has a NUL byte.
    pub fn new(hooks: &spec::Hooks) -> Result<HooksPlan> {
        Ok(HooksPlan {
            prestart: list("prestart", hooks.prestart())?,
            create_runtime: list("createRuntime", hooks.create_runtime())?,
            create_container: list("createContainer", hooks.create_container())?,
            start_container: list("startContainer", hooks.start_container())?,
            poststart: list("poststart", hooks.poststart())?,
            poststop: list("poststop", hooks.poststop())?,
        })
    }

    /// Returns whether init waits for the parent before it enters the root filesystem. The
    /// parent runs its hooks then, and sets the device rules, which must hold for init's
    /// createContainer hooks.
    pub fn any_before_entering(&self) -> bool {
        let lists = [&self.prestart, &self.create_runtime, &self.create_container];
        lists.iter().any(|list| !list.is_empty())
    }
}

fn list(moment: &str, hooks: &Option<Vec<spec::Hook>>) -> Result<Vec<Hook>> {
    let hook = |(index, hook): (usize, &spec::Hook)| {
        Hook::new(hook).with_context(|| format!("hooks.{moment}[{index}]"))
    };
    hooks.iter().flatten().enumerate().map(hook).collect()
}

impl Hook {
    /// # Errors
    /// Returns the errors of [`HooksPlan::new`].
    pub fn new(hook: &spec::Hook) -> Result<Hook> {
        let path = hook.path();
        if !path.is_absolute() {
            bail!("path {path:?} is not absolute");
        }
        let timeout = match hook.timeout() {
            None => None,
            Some(seconds) => match u32::try_from(seconds).ok().and_then(NonZeroU32::new) {
                Some(seconds) => Some(seconds),
                None => bail!("timeout {seconds} is not above 0 seconds, or too long"),
            },
        };
        let name = path.to_string_lossy().into_owned();
        let args = hook.args().clone().filter(|args| !args.is_empty());
        let args = args.unwrap_or_else(|| vec![name.clone()]);
        let env = hook.env().clone().filter(|env| !env.is_empty());
        let strings = args.iter().chain(env.iter().flatten()).chain([&name]);
        if let Some(text) = strings.into_iter().find(|text| text.contains('\0')) {
            bail!("{text:?} contains a nul byte");
        }
        Ok(Hook {
            path: path.clone(),
            args,
            env,
            timeout,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<HooksPlan> {
        HooksPlan::new(&crate::testing::read(json))
    }

    #[test]
    fn hooks_of_two_moments() {
        let plan = plan(
            r#"{"createRuntime":[{"path":"/a","args":["x","y"],"env":["A=1"],"timeout":3}],
                "poststop":[{"path":"/b"},{"path":"/c","env":[]}]}"#,
        )
        .expect("plan");
        let hook = &plan.create_runtime[0];
        assert_eq!(
            (&hook.args[..], hook.timeout),
            (&["x".into(), "y".into()][..], NonZeroU32::new(3))
        );
        assert_eq!(hook.env.as_deref(), Some(&["A=1".to_owned()][..]));
        assert_eq!(plan.poststop[0].args, ["/b"]);
        assert_eq!(plan.poststop[1].env, None);
        assert!(plan.any_before_entering());
        assert!(plan.prestart.is_empty());
    }

    #[test]
    fn what_is_no_hook() {
        for (json, words) in [
            (
                r#"{"prestart":[{"path":"a"}]}"#,
                r#"hooks.prestart[0]: path "a" is not absolute"#,
            ),
            (
                r#"{"prestart":[{}]}"#,
                r#"hooks.prestart[0]: path "" is not absolute"#,
            ),
            (
                r#"{"poststart":[{"path":"/a"},{"path":"/a","timeout":0}]}"#,
                "hooks.poststart[1]: timeout 0 is not above 0 seconds, or too long",
            ),
            (
                r#"{"poststart":[{"path":"/a","args":["\u0000"]}]}"#,
                r#"hooks.poststart[0]: "\0" contains a nul byte"#,
            ),
        ] {
            let error = plan(json).expect_err(json);
            assert_eq!(format!("{error:#}"), words);
        }
    }
}
