//! Findings for people, under Istio's message codes: what reading and compiling find, and what is in force and yet hardly
//! what its author wants.
//!
//! Codes without one of Istio's are ours and begin with `MESH`.

mod checks;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::compile;
use crate::source::{self, Diagnostic, Loaded, Severity};
use crate::store::Store;

/// How bad a finding is, as Istio's analyzers say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Worth knowing.
    Info,
    /// In force, though perhaps not as meant.
    Warning,
    /// Not in force, or it breaks traffic.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Info => "Info",
            Level::Warning => "Warning",
            Level::Error => "Error",
        })
    }
}

/// A kind of finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code {
    /// `IST0101`.
    pub code: &'static str,
    /// `ReferencedResourceNotFound`.
    pub name: &'static str,
    /// How bad it is.
    pub level: Level,
}

macro_rules! codes {
    ($($constant:ident = $code:literal $name:ident $level:ident;)*) => {
        $(const $constant: Code = Code { code: $code, name: stringify!($name), level: Level::$level };)*
        /// Every kind of finding.
        pub const CODES: &[Code] = &[$($constant),*];
    };
}

codes! {
    NOT_FOUND = "IST0101" ReferencedResourceNotFound Error;
    NOT_INJECTED = "IST0102" NamespaceNotInjected Info;
    NO_PROXY = "IST0103" PodMissingProxy Warning;
    SCHEMA = "IST0106" SchemaValidationError Error;
    HOSTS = "IST0109" ConflictingMeshGatewayVirtualServiceHosts Error;
    SIDECAR_SELECTORS = "IST0110" ConflictingSidecarWorkloadSelectors Error;
    SIDECARS = "IST0111" MultipleSidecarsWithoutWorkloadSelectors Error;
    PORT_NAME = "IST0118" PortNameIsNotUnderNamingConvention Info;
    NOT_IN_GATEWAY = "IST0132" VirtualServiceHostNotFoundInGateway Warning;
    SCHEMA_WARNING = "IST0133" SchemaWarning Warning;
    SUBSET_WITHOUT_PODS = "IST0173" DestinationRuleSubsetNotSelectPods Error;
    UNKNOWN_HOST = "IST0174" UnknownDestinationRuleHost Warning;
    NOT_IN_FORCE = "MESH0001" FieldNotInForce Warning;
    SHADOWED = "MESH0002" AnotherObjectComesFirst Warning;
}

/// A finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Message {
    /// Object and field, file and line, what is wrong and what to do.
    pub diagnostic: Diagnostic,
    /// Which kind of finding.
    pub code: Code,
}

impl fmt::Display for Message {
    /// `Error [IST0101] (VirtualService shop/web web.yaml:7) spec.gateways[0]: there is no …`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Diagnostic {
            file,
            line,
            object,
            field,
            message,
            ..
        } = &self.diagnostic;
        let place = match (file.as_os_str().is_empty(), line) {
            (true, _) => String::new(),
            (false, 0) => file.display().to_string(),
            (false, line) => format!("{}:{line}", file.display()),
        };
        let parts = [object.as_str(), &place];
        let around: Vec<&str> = parts.into_iter().filter(|p| !p.is_empty()).collect();
        write!(f, "{} [{}] ({}) ", self.code.level, self.code.code, around.join(" "))?;
        if !field.is_empty() {
            write!(f, "{field}: ")?;
        }
        // One finding is one line, whatever a user's value holds.
        f.write_str(&message.replace('\n', " "))
    }
}

/// Everything that is worth saying of these objects, the worst first. `whole` says that the objects are all that there are:
/// without it nothing is said of Pods, Secrets and Namespaces that are missing.
pub fn analyze(store: &Store, loaded: &Loaded, whole: bool) -> Vec<Message> {
    let mut out = Vec::new();
    for diagnostic in &loaded.diagnostics {
        let code = match diagnostic.severity {
            Severity::Error => SCHEMA,
            Severity::Warning => SCHEMA_WARNING,
        };
        out.push(Message {
            diagnostic: diagnostic.clone(),
            code,
        });
    }
    let mut say = |code: Code, object: &str, field: &str, message: &str| {
        let severity = if code.level == Level::Error {
            Severity::Error
        } else {
            Severity::Warning
        };
        out.push(Message {
            diagnostic: loaded.places.diagnostic(object, field, message, severity),
            code,
        });
    };
    for warning in store.objects().iter().flat_map(|o| compile::unsupported(o)) {
        say(NOT_IN_FORCE, &warning.object, &warning.field, &warning.message);
    }
    for (warning, severity) in source::between(store) {
        let code = code_between(&warning.object, &warning.field, severity);
        say(code, &warning.object, &warning.field, &warning.message);
    }
    checks::run(store, whole, &mut say);
    out.sort_by(|a, b| {
        let level = b.code.level.cmp(&a.code.level);
        level.then_with(|| a.code.code.cmp(b.code.code)).then_with(|| a.cmp(b))
    });
    out.dedup();
    out
}

/// The kind of a finding of [`source::between`]: an error is a reference that leads nowhere, a warning mostly an object
/// that comes second.
fn code_between(object: &str, field: &str, severity: Severity) -> Code {
    let kind = object.split(' ').next().unwrap_or_default();
    match (kind, field, severity) {
        (_, _, Severity::Error) => NOT_FOUND,
        ("DestinationRule", "spec.host", _) => UNKNOWN_HOST,
        ("VirtualService", field, _) if field.starts_with("spec.hosts") => HOSTS,
        ("Sidecar", "", _) => SIDECARS,
        ("Sidecar", "spec.workloadSelector", _) => SIDECAR_SELECTORS,
        ("Sidecar", _, _) => NOT_FOUND,
        _ => SHADOWED,
    }
}
