//! `/logging`: levels of the log, changed while running.

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use parking_lot::Mutex;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::reload;

use super::State;
use super::server::{Call, Reply};

/// Envoy's names of loggers that people have in their fingers, and where these things happen here.
const LOGGERS: &[(&str, &str)] = &[
    ("admin", "mesh_proxy::admin"),
    ("config", "mesh_proxy::xds"),
    ("conn_handler", "mesh_proxy::listener"),
    ("connection", "mesh_proxy::listener"),
    ("dns", "mesh_proxy::dns"),
    ("filter", "mesh_proxy::tcp"),
    ("http", "mesh_proxy::http"),
    ("http2", "h2"),
    ("jwt", "mesh_proxy::http"),
    ("main", "mesh_proxy"),
    ("pool", "mesh_proxy::upstream"),
    ("rbac", "mesh_proxy::http"),
    ("router", "mesh_proxy::http"),
    ("secret", "mesh_proxy::tls"),
    ("upstream", "mesh_proxy::upstream"),
    ("xds", "mesh_proxy::xds"),
];

/// Reads and changes the log filter of the process.
#[derive(Clone)]
pub struct LogControl(Arc<Inner>);

struct Inner {
    levels: Mutex<Levels>,
    apply: Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>,
}

/// The level of everything, and of single modules.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Levels {
    all: String,
    modules: Vec<(String, String)>,
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogControl({:?})", self.0.levels.lock())
    }
}

impl LogControl {
    /// A layer for the subscriber, and the control over it. `levels` is Envoy's form (`info`, `warning`) or
    /// directives of [`EnvFilter`] (`info,mesh_proxy::xds=debug`).
    ///
    /// # Errors
    /// Names the level that does not exist.
    pub fn new<S>(levels: &str) -> Result<(reload::Layer<EnvFilter, S>, Self), String>
    where
        S: tracing::Subscriber + 'static,
        reload::Handle<EnvFilter, S>: Send + Sync,
    {
        let levels = Levels::read(levels)?;
        let (layer, handle) = reload::Layer::new(levels.filter()?);
        let apply = Box::new(move |filter| handle.reload(filter).map_err(|e| e.to_string()));
        Ok((
            layer,
            LogControl(Arc::new(Inner {
                levels: Mutex::new(levels),
                apply,
            })),
        ))
    }

    /// The directives in force.
    pub fn current(&self) -> String {
        self.0.levels.lock().directives()
    }

    fn change(&self, change: impl FnOnce(&mut Levels) -> Result<(), String>) -> Result<(), String> {
        let mut levels = self.0.levels.lock();
        let mut changed = levels.clone();
        change(&mut changed)?;
        (self.0.apply)(changed.filter()?)?;
        *levels = changed;
        Ok(())
    }
}

impl Levels {
    fn read(text: &str) -> Result<Self, String> {
        let mut levels = Levels {
            all: "info".to_owned(),
            modules: Vec::new(),
        };
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            match part.split_once('=') {
                None => levels.set_all(part)?,
                Some((module, level)) => levels.set(module, level)?,
            }
        }
        Ok(levels)
    }

    fn set_all(&mut self, level: &str) -> Result<(), String> {
        self.all = read_level(level)?.to_owned();
        self.modules.clear();
        Ok(())
    }

    fn set(&mut self, logger: &str, level: &str) -> Result<(), String> {
        let level = read_level(level)?.to_owned();
        let known = LOGGERS
            .iter()
            .find(|(name, _)| *name == logger)
            .map(|(_, module)| *module);
        let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let module = known.unwrap_or(logger);
        if module.is_empty() || !module.chars().all(is_path) || known.is_none() && !logger.contains("::") {
            return Err(format!("unknown logger {logger:?}"));
        }
        self.modules.retain(|(m, _)| m != module);
        self.modules.push((module.to_owned(), level));
        Ok(())
    }

    fn directives(&self) -> String {
        let modules = self.modules.iter().map(|(module, level)| format!(",{module}={level}"));
        std::iter::once(self.all.clone()).chain(modules).collect()
    }

    fn filter(&self) -> Result<EnvFilter, String> {
        EnvFilter::try_new(self.directives()).map_err(|e| e.to_string())
    }

    fn of(&self, module: &str) -> &str {
        let is_for = |m: &str| {
            module
                .strip_prefix(m)
                .is_some_and(|r| r.is_empty() || r.starts_with("::"))
        };
        let fitting = self.modules.iter().filter(|(m, _)| is_for(m));
        fitting
            .max_by_key(|(m, _)| m.len())
            .map_or(self.all.as_str(), |(_, level)| level)
    }
}

fn read_level(level: &str) -> Result<&'static str, String> {
    Ok(match level {
        "trace" => "trace",
        "debug" => "debug",
        "info" => "info",
        "warning" | "warn" => "warn",
        // There is nothing above an error here.
        "error" | "critical" => "error",
        "off" => "off",
        _ => return Err("unknown logger level".to_owned()),
    })
}

pub(super) fn page(call: &Call, state: &State) -> Reply {
    let Some(log) = &state.options.log else {
        let text = "the log level of this process cannot be changed\n";
        return Reply::text(StatusCode::NOT_IMPLEMENTED, text);
    };
    let result = match call.query.as_slice() {
        [] => Ok(()),
        [(key, level)] if key == "level" => log.change(|levels| levels.set_all(level)),
        [(key, list)] if key == "paths" => log.change(|levels| {
            list.split(',').filter(|p| !p.is_empty()).try_for_each(|pair| {
                let (logger, level) = pair.rsplit_once(':').ok_or("expected NAME:LEVEL")?;
                levels.set(logger, level)
            })
        }),
        [(logger, level)] => log.change(|levels| levels.set(logger, level)),
        _ => Err("give one parameter".to_owned()),
    };
    match result {
        Ok(()) => {
            let levels = log.0.levels.lock();
            let line = |(name, module): &(&str, &str)| {
                let level = levels.of(module);
                let level = if level == "warn" { "warning" } else { level };
                format!("  {name}: {level}\n")
            };
            let lines: String = LOGGERS.iter().map(line).collect();
            Reply::text(StatusCode::OK, format!("active loggers:\n{lines}"))
        }
        Err(message) => Reply::bad(format!(
            "error: {message}\n\nusage: /logging?<name>=<level> (change single level)\n\
             usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n\
             usage: /logging?level=<level> (change all levels)\n\
             levels: trace debug info warning error critical off"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_single_loggers_stand_over_the_general_one() {
        let mut levels = Levels::read("warning,mesh_proxy::xds=debug").expect("well formed");
        levels.set("http", "trace").expect("known");
        assert_eq!(levels.directives(), "warn,mesh_proxy::xds=debug,mesh_proxy::http=trace");
        assert_eq!(levels.of("mesh_proxy::xds::ads"), "debug");
        assert_eq!(levels.of("mesh_proxy::xdsx"), "warn");
        assert!(levels.filter().is_ok());
        assert!(levels.set("nope", "info").is_err());
        assert!(levels.set("http", "loud").is_err());
        levels.set_all("off").expect("a level");
        assert_eq!(levels.directives(), "off");
    }
}
