//! A request for GPUs and for files of their driver. It is parsed from the value of Docker's
//! option --gpus, or from the variables that images and engines set for NVIDIA's GPUs.

use std::str::FromStr;

use crate::Vendor;

/// A request for GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The vendor; `None` stands for the first vendor of which there are GPUs.
    pub vendor: Option<Vendor>,
    /// The selected GPUs.
    pub which: Which,
    /// The capabilities; `None` stands for the default.
    pub capabilities: Option<Capabilities>,
    /// The channels to the memory of other machines (IMEX).
    pub imex_channels: Vec<u32>,
}

/// The selection of GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Which {
    /// All GPUs.
    #[default]
    All,
    /// This many GPUs, from the first on.
    Count(usize),
    /// The GPUs with these names: numbers, UUIDs or bus addresses.
    Named(Vec<String>),
}

bitflags::bitflags! {
    /// The purposes of NVIDIA's driver. Each needs files of its own.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Capabilities: u8 {
        /// CUDA and OpenCL.
        const COMPUTE = 1;
        /// nvidia-smi and NVML.
        const UTILITY = 1 << 1;
        /// OpenGL and Vulkan.
        const GRAPHICS = 1 << 2;
        /// Encoding and decoding of video.
        const VIDEO = 1 << 3;
        /// X11 displays.
        const DISPLAY = 1 << 4;
        /// NVIDIA's NGX.
        const NGX = 1 << 5;
        /// 32-bit libraries.
        const COMPAT32 = 1 << 6;
    }
}

impl Default for Capabilities {
    fn default() -> Capabilities {
        Capabilities::COMPUTE | Capabilities::UTILITY
    }
}

impl FromStr for Capabilities {
    type Err = String;

    /// Parses words separated by commas, or `all`. An empty text gives the default.
    fn from_str(words: &str) -> Result<Capabilities, String> {
        let mut capabilities = Capabilities::empty();
        for word in list(words) {
            capabilities |= match word {
                "all" => Capabilities::all(),
                // Docker's capability of devices that are GPUs.
                "gpu" => Capabilities::empty(),
                word => named(word)?,
            };
        }
        Ok(match capabilities.is_empty() {
            true => Capabilities::default(),
            false => capabilities,
        })
    }
}

fn named(word: &str) -> Result<Capabilities, String> {
    let mut known = Capabilities::all().iter_names();
    let found = known.find(|(name, _)| name.to_ascii_lowercase() == word);
    found.map(|(_, capability)| capability).ok_or_else(|| {
        let known = Capabilities::all().iter_names();
        let known: Vec<String> = known.map(|(name, _)| name.to_ascii_lowercase()).collect();
        format!("capability {word:?}: not one of {}, all", known.join(", "))
    })
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

impl Request {
    /// Requests the GPUs of a vendor with these names, or all if one of the names is `all`.
    #[must_use]
    pub fn named(vendor: Option<Vendor>, names: &[&str]) -> Request {
        Request {
            vendor,
            which: which(names),
            ..Request::default()
        }
    }

    /// Parses the value of a variable such as `NVIDIA_VISIBLE_DEVICES`, in which a number is a
    /// name. `none` requests the driver without a GPU.
    #[must_use]
    pub fn from_variable(vendor: Vendor, devices: &str) -> Option<Request> {
        let names: Vec<&str> = list(devices).collect();
        if names.is_empty() || names.contains(&"void") {
            return None;
        }
        // The first of the two words decides.
        let word = names.iter().find(|name| ["all", "none"].contains(name));
        let names = match word {
            Some(&"none") => &[],
            _ => &names[..],
        };
        Some(Request::named(Some(vendor), names))
    }

    /// Returns the capabilities, which may be the default.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities.unwrap_or_default()
    }
}

fn which(names: &[&str]) -> Which {
    let mut each: Vec<String> = Vec::new();
    for name in names {
        if !each.iter().any(|other| other == name) {
            each.push((*name).to_owned());
        }
    }
    match names.contains(&"all") {
        true => Which::All,
        false => Which::Named(each),
    }
}

impl FromStr for Request {
    type Err = String;

    /// Parses the value of `--gpus`: `all`, a count, names, or the fields `device=`, `count=`,
    /// `capabilities=`, `driver=` and `imex=`. A single number is a count. A field may be
    /// quoted, but need not be: a word after a comma without a field's name belongs to the
    /// field before it.
    fn from_str(text: &str) -> Result<Request, String> {
        const KEYS: [&str; 5] = ["device", "count", "capabilities", "driver", "imex"];
        let mut request = Request::default();
        let mut values: [Vec<&str>; 5] = Default::default();
        let mut key = None;
        let mut bare = Vec::new();
        for field in list(text).map(|field| field.trim_matches('"').trim()) {
            let value = match field.split_once('=') {
                Some((name, value)) => {
                    let found = KEYS.iter().position(|key| *key == name);
                    key = Some(found.ok_or_else(|| {
                        format!("field {name:?}: not one of {}", KEYS.join(", "))
                    })?);
                    value
                }
                None => field,
            };
            match key {
                Some(key) => values[key].push(value),
                None => bare.push(value),
            }
        }
        let [devices, counts, capabilities, drivers, channels] = &values;
        let named = [&bare[..], devices].concat();
        request.which = match (&named[..], &counts[..]) {
            ([], ["all" | "-1"]) => Which::All,
            // Docker's default if there are other fields.
            ([], []) if text.contains('=') => Which::Count(1),
            ([], [count]) => Which::Count(number(count)?),
            ([count], []) if devices.is_empty() && is_number(count) => Which::Count(number(count)?),
            ([], []) => return Err("no GPUs are named".to_owned()),
            (names, []) => which(names),
            _ => return Err("there is more than one count, or a count and names".to_owned()),
        };
        if !capabilities.is_empty() {
            request.capabilities = Some(capabilities.join(",").parse()?);
        }
        request.vendor = match &drivers[..] {
            [] => None,
            [driver] => Some(driver.parse()?),
            _ => return Err("there is more than one driver".to_owned()),
        };
        for channel in channels {
            let channel = channel.strip_prefix("channel").unwrap_or(channel);
            let number = channel.parse();
            request
                .imex_channels
                .push(number.map_err(|_| format!("IMEX channel {channel:?}: not a number"))?);
        }
        Ok(request)
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn number(text: &str) -> Result<usize, String> {
    let number: Option<usize> = text.parse().ok();
    number.filter(|number| *number > 0).ok_or_else(|| {
        let hint = match number {
            Some(_) => "; the first GPU is \"device=0\"",
            None => "",
        };
        format!("count {text:?}: neither all nor a number from 1 on{hint}")
    })
}
