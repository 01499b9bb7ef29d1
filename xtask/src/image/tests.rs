use std::collections::BTreeMap;

use super::layer::linked;
use super::*;

fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("xtask-image-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Everything in a tar by its path.
fn read_back(tar: &Path) -> BTreeMap<String, (tar::Header, Vec<u8>)> {
    let mut archive = tar::Archive::new(File::open(tar).expect("the archive"));
    archive
        .entries()
        .expect("entries")
        .map(|entry| {
            let mut entry = entry.expect("an entry");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("content");
            let path = entry.path().expect("a path").display().to_string();
            (path, (entry.header().clone(), content))
        })
        .collect()
}

fn sample(folder: &Path, out: &str) -> PathBuf {
    let program = folder.join("program");
    std::fs::write(&program, b"#!/bin/sh\n").expect("a file");
    let mut layer = Layer::default();
    layer
        .file("/usr/local/bin/program", &program, 0o755)
        .link("usr/local/bin/other", "program")
        .bytes("/etc/passwd", "root:x:0:0::/:\n", 0o644)
        .folder("/tmp", 0o1777);
    let tar = folder.join(format!("{out}.layer"));
    layer.write(&tar).expect("a layer");
    let layers = [tar];
    let config = Config {
        env: vec!["A=b".to_owned()],
        entrypoint: vec!["/usr/local/bin/program".to_owned(), "run".to_owned()],
        user: "1337:1337".to_owned(),
        stop_signal: Some("SIGRTMIN+3".to_owned()),
    };
    let first = Image {
        name: "example.local/it:1.0",
        config,
        layers: &layers,
    };
    let second = Image {
        name: "it:2.0",
        config: Config::default(),
        layers: &layers,
    };
    let archive = folder.join(out);
    let size = write(&[first, second], &archive).expect("an archive");
    assert_eq!(size, std::fs::metadata(&archive).expect("a file").len());
    archive
}

#[test]
fn both_manifests_name_the_blobs_that_are_there() {
    let folder = scratch("manifests");
    let files = read_back(&sample(&folder, "a.tar"));
    let json = |path: &str| -> serde_json::Value {
        serde_json::from_slice(&files.get(path).unwrap_or_else(|| panic!("no {path}")).1).expect("JSON")
    };
    for (path, (_, content)) in files.iter().filter(|(p, _)| p.starts_with("blobs/")) {
        assert_eq!(*path, blob(&digest(content)), "a blob is called by its digest");
    }
    let docker = json("manifest.json");
    assert_eq!(docker[0]["RepoTags"][0], "example.local/it:1.0");
    let config = json(docker[0]["Config"].as_str().expect("a path"));
    assert_eq!(
        config["config"]["Entrypoint"],
        serde_json::json!(["/usr/local/bin/program", "run"])
    );
    assert_eq!(config["config"]["User"], "1337:1337");
    assert_eq!(config["config"]["StopSignal"], "SIGRTMIN+3");
    assert_eq!(config["config"]["Env"], serde_json::json!([PATH, "A=b"]));
    let layer = docker[0]["Layers"][0].as_str().expect("a path");
    assert_eq!(
        config["rootfs"]["diff_ids"][0],
        layer.replace("blobs/sha256/", "sha256:"),
        "the layer is what the configuration says"
    );

    let index = json("index.json");
    assert_eq!(
        index["manifests"][0]["annotations"]["io.containerd.image.name"],
        "example.local/it:1.0"
    );
    let digest = index["manifests"][0]["digest"].as_str().expect("a digest");
    let manifest = json(&digest.replace("sha256:", "blobs/sha256/"));
    assert_eq!(
        manifest["layers"][0]["size"].as_u64().expect("a size") as usize,
        files[layer].1.len()
    );
    assert!(files.contains_key("oci-layout"));

    assert_eq!(docker[1]["RepoTags"][0], "it:2.0");
    assert_eq!(
        docker[1]["Layers"], docker[0]["Layers"],
        "what images share is there once"
    );
    let second = &index["manifests"][1]["annotations"];
    assert_eq!(second["io.containerd.image.name"], "docker.io/library/it:2.0");
    let _ = std::fs::remove_dir_all(folder);
}

#[test]
fn a_layer_has_its_entries_and_the_folders_above_them() {
    let folder = scratch("layer");
    let _ = sample(&folder, "a.tar");
    let files = read_back(&folder.join("a.tar.layer"));
    let paths: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(
        paths,
        [
            "etc/",
            "etc/passwd",
            "tmp/",
            "usr/",
            "usr/local/",
            "usr/local/bin/",
            "usr/local/bin/other",
            "usr/local/bin/program"
        ]
    );
    let mode = |path: &str| files[path].0.mode().expect("a mode");
    assert_eq!(
        (mode("usr/"), mode("tmp/"), mode("usr/local/bin/program")),
        (0o755, 0o1777, 0o755)
    );
    assert_eq!(files["usr/local/bin/program"].1, b"#!/bin/sh\n");
    let link = &files["usr/local/bin/other"].0;
    assert_eq!(
        link.link_name()
            .expect("a link")
            .expect("a target")
            .display()
            .to_string(),
        "program"
    );
    let _ = std::fs::remove_dir_all(folder);
}

#[test]
fn equal_input_gives_equal_bytes() {
    let folder = scratch("equal");
    let (a, b) = (sample(&folder, "a.tar"), sample(&folder, "b.tar"));
    assert_eq!(std::fs::read(a).expect("a"), std::fs::read(b).expect("b"));
    let _ = std::fs::remove_dir_all(folder);
}

#[test]
fn libraries_are_read_from_what_ldd_says() {
    let said = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
    assert_eq!(
        linked(said).expect("libraries"),
        ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2"]
    );
    assert!(linked("\tstatically linked\n").expect("none").is_empty());
    assert!(linked("\tlibx.so => not found\n").is_err());
}

#[test]
fn names_have_their_registry() {
    assert_eq!(full_name("k8s.gcr.io/pause:3.2"), "k8s.gcr.io/pause:3.2");
    assert_eq!(full_name("localhost/mesh/it:1"), "localhost/mesh/it:1");
    assert_eq!(full_name("someone/it:1"), "docker.io/someone/it:1");
    assert_eq!(full_name("it:1"), "docker.io/library/it:1");
}
