//! A folder of YAML files as the source of objects.
//!
//! All `.yaml`, `.yml` and `.json` files below the folder are read, hidden and temporary ones aside, with any number of
//! documents each. A document that is wrong gives one line for each thing that is wrong with it and stops nothing else;
//! an object that was good before stays in force as it was, as it would in an API server that refuses the change.

mod document;
mod stamp;
mod watch;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use mesh_api::istio::AnyObject;
use sha2::{Digest as _, Sha256};

use super::{Diagnostic, Loaded, Places, Severity};
use document::{Document, Problem};
use stamp::Stamp;

pub use watch::Watcher;
pub use yaml::{Lines, lines_of};

/// Folders deeper than this are a loop of links.
const MAX_DEPTH: usize = 32;
/// Nobody writes YAML this long by hand.
const MAX_FILE: u64 = 64 << 20;

/// The folder, with what was read from it before.
#[derive(Debug)]
pub struct Directory {
    /// Folders, or single files.
    roots: Vec<PathBuf>,
    files: BTreeMap<PathBuf, File>,
    /// Last good version of each object, with the file that it came from.
    good: HashMap<String, Good>,
}

#[derive(Debug)]
struct File {
    /// `None` when it was changed so shortly before that the next change might look the same.
    stamp: Option<Stamp>,
    sha256: Arc<str>,
    documents: Vec<Document>,
}

#[derive(Debug, Clone)]
struct Good {
    object: Arc<AnyObject>,
    file: Arc<PathBuf>,
    lines: Arc<Lines>,
}

impl Directory {
    /// A folder; it is read by [`Directory::load`].
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self::of(vec![root.into()])
    }

    /// Several folders, and files that are read whatever their names end in.
    pub fn of(roots: Vec<PathBuf>) -> Self {
        Directory {
            roots,
            files: BTreeMap::new(),
            good: HashMap::new(),
        }
    }

    /// Reads what has changed and gives everything.
    pub fn load(&mut self) -> Loaded {
        let mut loaded = Loaded::default();
        let mut found = BTreeMap::new();
        // The folder itself cannot be read: nothing is known, so nothing changes.
        let mut lost: Vec<PathBuf> = Vec::new();
        let mut failed = |path: &Path, error: &std::io::Error| {
            lost.push(path.to_owned());
            loaded.diagnostics.push(whole_file(
                path,
                &format!("cannot be read: {error}; what it held before stays in force"),
            ));
        };
        for root in &self.roots {
            match std::fs::metadata(root) {
                Ok(metadata) if metadata.is_file() => {
                    found.insert(root.clone(), metadata);
                }
                _ => list(root, 0, &mut found, &mut failed),
            }
        }
        for (path, metadata) in &found {
            let stamp = Stamp::of(metadata, SystemTime::now());
            let known = self.files.get_mut(path);
            if stamp.is_some() && known.as_ref().is_some_and(|f| f.stamp == stamp) {
                continue;
            }
            match read_file(path, metadata) {
                Ok(text) => {
                    let sha256 = sha256(&text);
                    match known {
                        Some(known) if known.sha256 == sha256 => known.stamp = stamp,
                        _ => {
                            let documents = document::read(&text);
                            let file = File {
                                stamp,
                                sha256,
                                documents,
                            };
                            self.files.insert(path.clone(), file);
                        }
                    }
                }
                Err(error) => loaded.diagnostics.push(whole_file(
                    path,
                    &format!("cannot be read: {error}; what it held before stays in force"),
                )),
            }
        }
        self.files
            .retain(|path, _| found.contains_key(path) || lost.iter().any(|l| path.starts_with(l)));
        loaded.files = self.files.iter().map(|(p, f)| (p.clone(), f.sha256.clone())).collect();
        self.collect(&mut loaded);
        loaded.diagnostics.sort();
        loaded
    }

    /// Whether a file has a document about an object, good or not, or one of which nobody can tell what it is about.
    fn speaks_of(&self, file: &Path, object: &String) -> bool {
        let documents = self.files.get(file).map(|f| f.documents.as_slice());
        let mut documents = documents.unwrap_or_default().iter();
        documents.any(|document| {
            document
                .object
                .as_ref()
                .map_or(document.result.is_err(), |o| o == object)
        })
    }

    fn collect(&mut self, loaded: &mut Loaded) {
        let mut good: HashMap<String, Good> = HashMap::new();
        for (path, file) in &self.files {
            let path = Arc::new(path.clone());
            // Objects that this file held before and that no document of it speaks of any more.
            let named: HashSet<&String> = file.documents.iter().filter_map(|d| d.object.as_ref()).collect();
            for document in &file.documents {
                let name = document.object.clone();
                // Of two files with one object the one that had it before keeps it, else the first by name.
                let first = name.as_ref().and_then(|n| {
                    let elsewhere = |g: &&Good| *g.file != *path && self.speaks_of(&g.file, n);
                    good.get(n).or_else(|| self.good.get(n).filter(elsewhere))
                });
                if let Some(first) = first {
                    loaded.diagnostics.push(duplicate(&path, document, first));
                    continue;
                }
                match &document.result {
                    Ok(object) => {
                        let entry = Good {
                            object: object.clone(),
                            file: path.clone(),
                            lines: document.lines.clone(),
                        };
                        good.insert(name.unwrap_or_default(), entry);
                        report(&path, document, &document.warnings, Severity::Warning, "", loaded);
                    }
                    Err(problems) => {
                        let kept: Vec<String> = match name {
                            Some(name) => self.good.contains_key(&name).then_some(name).into_iter().collect(),
                            // Nobody can tell which object it was: none of this file's is given up.
                            None => {
                                let here = self.good.iter().filter(|(_, g)| *g.file == *path);
                                here.map(|(n, _)| n.clone()).filter(|n| !named.contains(n)).collect()
                            }
                        };
                        let suffix = match kept.as_slice() {
                            [] => String::new(),
                            [one] if document.object.as_ref() == Some(one) => {
                                "; the last good version stays in force".to_owned()
                            }
                            several => format!("; {} stay in force as they were", several.join(", ")),
                        };
                        for name in kept {
                            if let (false, Some(before)) = (good.contains_key(&name), self.good.get(&name)) {
                                good.insert(name, before.clone());
                            }
                        }
                        report(&path, document, problems, Severity::Error, &suffix, loaded);
                    }
                }
            }
        }
        let mut places = Places::default();
        let mut names: Vec<&String> = good.keys().collect();
        names.sort();
        for name in names {
            let entry = &good[name];
            loaded.objects.push(entry.object.clone());
            places.insert(name.clone(), entry.file.clone(), entry.lines.clone());
        }
        loaded.places = places;
        self.good = good;
    }
}

fn report(
    path: &Arc<PathBuf>,
    document: &Document,
    problems: &[Problem],
    severity: Severity,
    suffix: &str,
    loaded: &mut Loaded,
) {
    for problem in problems {
        loaded.diagnostics.push(Diagnostic {
            file: (**path).clone(),
            line: problem.line,
            object: document.object.clone().unwrap_or_default(),
            field: problem.field.clone(),
            message: format!("{}{suffix}", problem.message),
            severity,
        });
    }
}

fn duplicate(path: &Path, document: &Document, first: &Good) -> Diagnostic {
    let line = match &document.result {
        Ok(_) => document.lines.line_of("metadata.name"),
        Err(problems) => problems.first().map_or(0, |p| p.line),
    };
    let place = format!("{}:{}", first.file.display(), first.lines.line_of("metadata.name"));
    Diagnostic {
        file: path.to_owned(),
        line,
        object: document.object.clone().unwrap_or_default(),
        field: "metadata.name".to_owned(),
        message: format!(
            "there is one of this kind and name already, at {place}, which stays in force; this one is left out"
        ),
        severity: Severity::Error,
    }
}

fn whole_file(path: &Path, message: &str) -> Diagnostic {
    Diagnostic {
        file: path.to_owned(),
        line: 0,
        object: String::new(),
        field: String::new(),
        message: message.to_owned(),
        severity: Severity::Error,
    }
}

fn sha256(text: &str) -> Arc<str> {
    let digest = Sha256::digest(text);
    digest
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>()
        .into()
}

fn read_file(path: &Path, metadata: &Metadata) -> Result<String, String> {
    let size = metadata.len();
    if size > MAX_FILE {
        return Err(format!("it has {size} bytes, more than {MAX_FILE}"));
    }
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    String::from_utf8(bytes).map_err(|e| format!("it is no UTF-8 text (byte {})", e.utf8_error().valid_up_to()))
}

/// All files below a folder that may hold objects. What cannot be listed is told to `failed`.
fn list(
    dir: &Path,
    depth: usize,
    out: &mut BTreeMap<PathBuf, Metadata>,
    failed: &mut dyn FnMut(&Path, &std::io::Error),
) {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return failed(dir, &error),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // Hidden, and what editors keep beside a file: `#x.yaml#`, `x.yaml~`, `.x.yaml.swp`.
        if name.starts_with(['.', '#']) || name.ends_with(['~', '#']) {
            continue;
        }
        // Follows links; a file that is gone again is none.
        let Ok(metadata) = std::fs::metadata(&path) else {
            continue;
        };
        if metadata.is_dir() {
            if depth < MAX_DEPTH {
                list(&path, depth + 1, out, failed);
            }
        } else if metadata.is_file() && has_objects(&path) {
            out.insert(path, metadata);
        }
    }
}

fn has_objects(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    matches!(extension, "yaml" | "yml" | "json")
}
