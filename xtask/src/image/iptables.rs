//! iptables in an image: programs, plug-ins, and the libraries of both.

use std::path::Path;

use anyhow::{Context, Result};

use super::Layer;

/// Names under which one program is each of them.
const NAMES: [&str; 3] = ["", "-save", "-restore"];

/// Adds them from the root filesystem of a Debian: the nft variant under the plain names, and both under their own.
///
/// # Errors
/// When it has no iptables.
pub(crate) fn iptables(layer: &mut Layer, root: &Path) -> Result<()> {
    for (program, variant) in [("xtables-nft-multi", "nft"), ("xtables-legacy-multi", "legacy")] {
        let path = format!("usr/sbin/{program}");
        layer.program(&path, root, &format!("/{path}"))?;
        for family in ["iptables", "ip6tables"] {
            for name in NAMES {
                layer.link(&format!("usr/sbin/{family}-{variant}{name}"), program);
                if variant == "nft" {
                    layer.link(&format!("usr/sbin/{family}{name}"), program);
                }
            }
        }
    }
    // Plug-ins have libraries of their own: without them one rule that cannot be loaded loses all rules.
    let plugins = format!("usr/lib/{}-linux-gnu/xtables", std::env::consts::ARCH);
    let folder = root.join(&plugins);
    for entry in std::fs::read_dir(&folder)
        .with_context(|| folder.display().to_string())?
        .flatten()
    {
        let path = format!("{plugins}/{}", entry.file_name().to_string_lossy());
        // Some are links to others.
        if let Ok(target) = std::fs::read_link(entry.path()) {
            layer.link(&path, &target.to_string_lossy());
        } else {
            layer.file(&path, &entry.path(), 0o644);
        }
    }
    layer.libraries_of_all(root, &plugins)
}
