//! The files of an image as one tar.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// One entry of a layer.
#[derive(Debug, Clone)]
enum Entry {
    Folder { mode: u32 },
    File { from: PathBuf, mode: u32 },
    Bytes { content: Vec<u8>, mode: u32 },
    Link { to: String },
}

/// Files of one layer by their paths in the image. Folders above an entry are made with mode 0755.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    entries: BTreeMap<String, Entry>,
}

impl Layer {
    /// A copy of a file of this machine, with permission bits such as 0o755.
    pub(crate) fn file(&mut self, path: &str, from: &Path, mode: u32) -> &mut Layer {
        self.add(
            path,
            Entry::File {
                from: from.to_owned(),
                mode,
            },
        )
    }

    /// A file with this content.
    pub(crate) fn bytes(&mut self, path: &str, content: impl Into<Vec<u8>>, mode: u32) -> &mut Layer {
        self.add(
            path,
            Entry::Bytes {
                content: content.into(),
                mode,
            },
        )
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, path: &str, to: &str) -> &mut Layer {
        self.add(path, Entry::Link { to: to.to_owned() })
    }

    /// An empty folder.
    pub(crate) fn folder(&mut self, path: &str, mode: u32) -> &mut Layer {
        self.add(path, Entry::Folder { mode })
    }

    fn add(&mut self, path: &str, entry: Entry) -> &mut Layer {
        let path = path.trim_matches('/').to_owned();
        for (at, _) in path.match_indices('/') {
            let above = path.get(..at).unwrap_or_default().to_owned();
            self.entries.entry(above).or_insert(Entry::Folder { mode: 0o755 });
        }
        self.entries.insert(path, entry);
        self
    }

    /// Adds a program and, where it is linked dynamically, the libraries that `ldd` names, all looked for under `root`
    /// (`/` for this machine).
    ///
    /// # Errors
    /// When a library is not found, or `ldd` cannot be run.
    pub(crate) fn program(&mut self, path: &str, root: &Path, program: &str) -> Result<&mut Layer> {
        self.file(path, &under(root, program), 0o755);
        self.libraries(root, program)
    }

    /// Adds only the libraries of a program.
    ///
    /// # Errors
    /// As for [`Layer::program`].
    pub(crate) fn libraries(&mut self, root: &Path, program: &str) -> Result<&mut Layer> {
        self.add_linked(root, &[program.to_owned()])?;
        Ok(self)
    }

    /// Adds the libraries of all plug-ins (`*.so`) in a folder under `root`.
    ///
    /// # Errors
    /// As for [`Layer::program`].
    pub(crate) fn libraries_of_all(&mut self, root: &Path, folder: &str) -> Result<()> {
        let plugins: Vec<_> = std::fs::read_dir(under(root, folder))?
            .flatten()
            .map(|e| format!("/{}/{}", folder.trim_matches('/'), e.file_name().to_string_lossy()))
            .filter(|path| path.ends_with(".so"))
            .collect();
        self.add_linked(root, &plugins)
    }

    fn add_linked(&mut self, root: &Path, programs: &[String]) -> Result<()> {
        // Its own root filesystem is every user's to ask; another one only root's.
        let mut ldd = if root == Path::new("/") {
            Command::new("ldd")
        } else {
            let mut chroot = Command::new("chroot");
            chroot.arg(root).arg("ldd");
            chroot
        };
        let output = ldd.args(programs).output().context("cannot start ldd")?;
        let said = String::from_utf8_lossy(&output.stdout);
        for library in linked(&said).with_context(|| format!("ldd {} under {}", programs.join(" "), root.display()))? {
            let from = std::fs::canonicalize(under(root, &library)).with_context(|| library.clone())?;
            self.file(&library, &from, 0o755);
        }
        Ok(())
    }

    /// Writes the layer as a tar.
    ///
    /// # Errors
    /// When a file cannot be read or the tar not be written; the error names it.
    pub(crate) fn write(&self, to: &Path) -> Result<()> {
        let file = File::create(to).with_context(|| to.display().to_string())?;
        let mut tar = tar::Builder::new(BufWriter::new(file));
        for (path, entry) in &self.entries {
            append(&mut tar, path, entry).with_context(|| format!("/{path} of the layer {}", to.display()))?;
        }
        tar.into_inner()?.flush()?;
        Ok(())
    }
}

fn under(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Paths of libraries in what `ldd` prints; none for a static program.
pub(super) fn linked(ldd: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for line in ldd.lines().map(str::trim) {
        if line.ends_with("not found") {
            bail!("{line}");
        }
        let path = line.split("=>").last().unwrap_or(line).split_whitespace().next();
        if let Some(path) = path.filter(|p| p.starts_with('/') && line.ends_with(')')) {
            found.push(path.to_owned());
        }
    }
    Ok(found)
}

fn append(tar: &mut tar::Builder<impl Write>, path: &str, entry: &Entry) -> Result<()> {
    match entry {
        Entry::Folder { mode } => {
            let mut header = header(tar::EntryType::Directory, *mode, 0);
            tar.append_data(&mut header, format!("{path}/"), std::io::empty())?;
        }
        Entry::File { from, mode } => {
            let file = File::open(from).with_context(|| from.display().to_string())?;
            let mut header = header(tar::EntryType::Regular, *mode, file.metadata()?.len());
            tar.append_data(&mut header, path, BufReader::new(file))?;
        }
        Entry::Bytes { content, mode } => {
            let mut header = header(tar::EntryType::Regular, *mode, content.len() as u64);
            tar.append_data(&mut header, path, content.as_slice())?;
        }
        Entry::Link { to } => {
            let mut header = header(tar::EntryType::Symlink, 0o777, 0);
            tar.append_link(&mut header, path, to)?;
        }
    }
    Ok(())
}

/// A tar header of what belongs to root and has no time.
pub(super) fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}
