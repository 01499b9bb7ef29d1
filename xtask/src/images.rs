//! `cargo xtask images`: the images of the mesh, as archives that need no container engine to be made.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::image::{self, Config, Image, Layer, iptables};
use crate::process::{command, output, timed};
use crate::{cargo, cluster, setup};

/// What to make.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// From the programs of a plain build: quick to make, large, and slow to run. For tests.
    #[arg(long)]
    debug: bool,
    /// From the programs in this folder, without a build.
    #[arg(long, value_name = "FOLDER", conflicts_with = "debug")]
    programs: Option<PathBuf>,
    /// Load them into the nodes of the cluster that `cargo xtask cluster up` made.
    #[arg(long)]
    load: bool,
    /// Tag of the images.
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    tag: String,
    /// Registry and folder of the images' names, as the charts' value `global.hub`.
    #[arg(long, default_value = HUB)]
    hub: String,
}

/// Where images are said to be that are fetched from nowhere.
pub(crate) const HUB: &str = "localhost/ferromesh";

/// Package and program.
const PROGRAMS: [(&str, &str); 5] = [
    ("mesh-control", "mesh-control"),
    ("mesh-proxy", "mesh-proxy"),
    ("mesh-cni", "mesh-init"),
    ("mesh-cni", "mesh-cni"),
    ("e2e", "e2e-sample"),
];

/// Debian packages whose programs go into images.
const TOOLS: [(&str, &str); 3] = [
    ("busybox", "busybox-static"),
    ("curl", "curl"),
    ("iptables-restore", "iptables"),
];

/// Names of the study notes' images: the sample application plays each, by the variable that says which.
const PLAYED: [&str; 4] = [
    "nicholasjackson/fake-service:v0.14.1",
    "nicholasjackson/fake-service:v0.17.0",
    "istioinaction/catalog:latest",
    "istioinaction/webapp:latest",
];

/// What people run in a shell inside a test pod.
const SHELL: [&str; 17] = [
    "sh", "sleep", "cat", "ls", "ps", "env", "id", "grep", "wget", "nslookup", "nc", "ip", "ping", "true", "false",
    "date", "tail",
];

/// The user that capture lets pass, and that all of the mesh runs as.
const USER: &str = "1337:1337";
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nistio-proxy:x:1337:1337:istio-proxy:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nistio-proxy:x:1337:\n";
const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Builds, writes, and loads if asked to.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::install(&setup::missing(&TOOLS))?;
    let programs = match &options.programs {
        Some(folder) => folder.clone(),
        None => build(options.debug)?,
    };
    let folder = cargo::target_dir().join("images");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut archives = Vec::new();
    println!("{:<10} {:>10}  ARCHIVE", "IMAGE", "SIZE");
    for (name, content) in images(&programs)? {
        let (layer, archive) = (folder.join(format!("{name}.layer")), folder.join(format!("{name}.tar")));
        content.layer.write(&layer)?;
        let layers = [layer];
        let full = format!("{}/{name}:{}", options.hub, options.tag);
        let mut parts = vec![Image {
            name: &full,
            config: content.config,
            layers: &layers,
        }];
        parts.extend(content.also.into_iter().map(|(name, config)| Image {
            name,
            config,
            layers: &layers,
        }));
        let size = image::write(&parts, &archive)?;
        std::fs::remove_file(&layers[0])?;
        println!("{name:<10} {:>10}  {}", cluster::size(size), archive.display());
        archives.push(archive);
    }
    if options.load {
        timed("loading them into the cluster", || cluster::load(&archives))?;
    } else {
        println!(
            "Load one with: docker load -i FILE, ctr -n k8s.io images import FILE, or kind load image-archive FILE"
        );
    }
    Ok(())
}

/// Loads images of a plain build that is there into the cluster that is up.
pub(crate) fn load_plain() -> Result<()> {
    run(&Options {
        debug: false,
        programs: Some(cargo::bin_dir()),
        load: true,
        tag: env!("CARGO_PKG_VERSION").to_owned(),
        hub: HUB.to_owned(),
    })
}

/// Folder of the programs, built.
fn build(debug: bool) -> Result<PathBuf> {
    if debug {
        cargo::run("the build", &["build", "--workspace", "--bins"])?;
        return Ok(cargo::bin_dir());
    }
    let there: Vec<_> = PROGRAMS
        .iter()
        .filter(|(package, program)| exists(package, program))
        .collect();
    let args: Vec<_> = there
        .iter()
        .flat_map(|(package, program)| ["-p", package, "--bin", program])
        .collect();
    println!("Building with --release (link-time optimisation: some minutes the first time)");
    let status = cargo::release(&args).status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the build failed: cargo ended with {status}");
    }
    Ok(cargo::release_dir())
}

/// Whether a package has this program.
fn exists(package: &str, program: &str) -> bool {
    let sources = cargo::root().join(package).join("src");
    sources.join("bin").join(format!("{program}.rs")).is_file()
        || sources.join("bin").join(program).is_dir()
        || package == program && sources.join("main.rs").is_file()
}

/// What an image is made of.
struct Content {
    layer: Layer,
    config: Config,
    /// Further names of the same files, started in another way.
    also: Vec<(&'static str, Config)>,
}

fn images(programs: &Path) -> Result<Vec<(&'static str, Content)>> {
    let mut control = base();
    program(&mut control, programs, "mesh-control")?;

    let mut proxy = base();
    program(&mut proxy, programs, "mesh-proxy")?;
    program(&mut proxy, programs, "mesh-init")?;
    // The name by which istioctl and the labs call it.
    proxy.link("usr/local/bin/pilot-agent", "mesh-proxy");
    iptables(&mut proxy, Path::new("/"))?;
    tool(&mut proxy, "curl", "usr/bin/curl")?;
    shell(&mut proxy)?;

    let mut cni = base();
    program(&mut cni, programs, "mesh-init")?;
    // Until the node agent is there, the image runs what an init container runs.
    let agent = if exists("mesh-cni", "mesh-cni") {
        "mesh-cni"
    } else {
        "mesh-init"
    };
    if agent == "mesh-cni" {
        program(&mut cni, programs, agent)?;
    }
    iptables(&mut cni, Path::new("/"))?;
    tool(&mut cni, "nsenter", "usr/bin/nsenter")?;

    let mut sample = base();
    program(&mut sample, programs, "e2e-sample")?;
    tool(&mut sample, "curl", "usr/bin/curl")?;
    shell(&mut sample)?;
    let also = PLAYED
        .map(|name| {
            let mut config = start("e2e-sample", "");
            config.env.push(format!("SAMPLE_IMAGE={name}"));
            (name, config)
        })
        .into();
    let plain = |layer, config| Content {
        layer,
        config,
        also: Vec::new(),
    };
    Ok(vec![
        ("control", plain(control, start("mesh-control", USER))),
        ("proxy", plain(proxy, start("mesh-proxy", USER))),
        ("cni", plain(cni, start(agent, ""))),
        (
            "sample",
            Content {
                layer: sample,
                config: start("e2e-sample", ""),
                also,
            },
        ),
    ])
}

fn start(program: &str, user: &str) -> Config {
    Config {
        entrypoint: vec![format!("/usr/local/bin/{program}")],
        user: user.to_owned(),
        ..Config::default()
    }
}

/// What every image has.
fn base() -> Layer {
    let mut layer = Layer::default();
    layer
        .bytes("etc/passwd", PASSWD, 0o644)
        .bytes("etc/group", GROUP, 0o644)
        .folder("tmp", 0o1777)
        .folder("run", 0o755);
    if Path::new(ROOTS).is_file() {
        layer.file(ROOTS, Path::new(ROOTS), 0o644);
    }
    layer
}

/// One of our programs, with its libraries if the build has not linked them in.
fn program(layer: &mut Layer, programs: &Path, name: &str) -> Result<()> {
    let path = slim(programs, name)?;
    layer.program(
        &format!("usr/local/bin/{name}"),
        Path::new("/"),
        &path.display().to_string(),
    )?;
    Ok(())
}

/// A program without its debug information, which is most of a plain build's size; names of functions stay.
pub(crate) fn slim(programs: &Path, name: &str) -> Result<PathBuf> {
    let built = std::fs::canonicalize(programs.join(name)).with_context(|| format!("the build left no {name}"))?;
    let folder = cargo::target_dir().join("images");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let slim = std::path::absolute(folder.join(name))?;
    let (from, to) = (built.display().to_string(), slim.display().to_string());
    output(&mut command("strip", &["--strip-debug", "-o", &to, &from])).context("strip is of Debian's binutils")?;
    Ok(slim)
}

/// A program of this machine.
fn tool(layer: &mut Layer, name: &str, path: &str) -> Result<()> {
    let found = setup::which(name).with_context(|| format!("no {name} on this machine"))?;
    layer.program(path, Path::new("/"), &found.display().to_string())?;
    Ok(())
}

fn shell(layer: &mut Layer) -> Result<()> {
    tool(layer, "busybox", "bin/busybox")?;
    for name in SHELL {
        layer.link(&format!("bin/{name}"), "busybox");
    }
    Ok(())
}
