//! What goes into the builder, and what comes out.

use std::collections::BTreeSet;

use crate::snapshot::Snapshot;

/// Messages of one type that came together.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// Type of all of them.
    pub type_url: String,
    /// New and changed ones.
    pub set: Vec<Incoming>,
    /// Names of those that are gone.
    pub remove: Vec<String>,
    /// `set` is all there is (state of the world): whatever else came dynamically is gone.
    pub complete: bool,
}

/// One message.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Resource name.
    pub name: String,
    /// Version, as the sender names it.
    pub version: String,
    /// The encoded message.
    pub bytes: Vec<u8>,
}

/// What an update did.
#[derive(Debug, Default)]
pub struct Applied {
    /// To be put in force, when anything changed.
    pub snapshot: Option<Snapshot>,
    /// What was refused; the versions before stay.
    pub rejected: Vec<Rejection>,
}

/// One refused field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Type of the resource.
    pub type_url: String,
    /// Name of the resource.
    pub name: String,
    /// Field; empty for the whole message.
    pub path: String,
    /// Why, and what to do.
    pub message: String,
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.type_url.rsplit('.').next().unwrap_or(&self.type_url);
        write!(f, "{kind} {:?}: ", self.name)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Names that the objects need from the control plane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wants {
    /// EDS.
    pub endpoints: BTreeSet<String>,
    /// RDS.
    pub routes: BTreeSet<String>,
    /// SDS over ADS.
    pub secrets: BTreeSet<String>,
}
