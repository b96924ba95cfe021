//! The hooks: which programs run at which moment (config.md, "POSIX-platform
//! Hooks"). `hooks.rs` runs them.

use core::num::NonZeroU32;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use oci_spec::runtime as spec;

use crate::prelude::*;

/// Hooks by their moment, each list in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HooksPlan {
    pub prestart: Vec<Hook>,
    pub create_runtime: Vec<Hook>,
    pub create_container: Vec<Hook>,
    pub start_container: Vec<Hook>,
    pub poststart: Vec<Hook>,
    pub poststop: Vec<Hook>,
}

/// One program to run. Kept in state.json for the moments that come later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Absolute.
    pub path: PathBuf,
    /// With the program's name first; never empty.
    pub args: Vec<String>,
    /// `None`: what the moment says. An empty list counts as none, since Go
    /// programs that write a specification cannot tell them apart.
    #[serde(deserialize_with = "Option::deserialize")]
    pub env: Option<Vec<String>>,
    /// Seconds after which the hook is killed.
    #[serde(deserialize_with = "Option::deserialize")]
    pub timeout: Option<NonZeroU32>,
}

impl HooksPlan {
    /// Checks the hooks.
    ///
    /// # Errors
    /// A path that is not absolute, a time-out that is not above zero, or a NUL
    /// byte, naming the hook.
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

    /// Whether init waits for the host before it enters the root filesystem:
    /// for the host's hooks, or for the device rules, under which its own run.
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
    /// What [`HooksPlan::new`] refuses.
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
