//! Compiles the `.proto` files that the `envoy-types` package carries into one descriptor set, so that any Envoy v3
//! message can be read and written as proto3 JSON by reflection (see `src/envoy/json.rs`), and a small table of the names of
//! their fields (see `src/envoy/fields.rs`).
//!
//! `protox` cannot resolve Envoy's relative type names, therefore the vendored `protoc` is run.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Import roots inside the package's `proto/` folder.
const ROOTS: [&str; 8] = [
    "data-plane-api",
    "googleapis",
    "xds",
    "protoc-gen-validate",
    "cel-spec/proto",
    "client_model",
    "opentelemetry-proto",
    "ratelimit",
];

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_ENVOY").is_none() {
        return Ok(());
    }
    own_messages()?;
    let protos = envoy_types_dir()?.join("proto");
    let out = PathBuf::from(env::var("OUT_DIR")?).join("envoy.fds");
    let roots: Vec<PathBuf> = ROOTS.iter().map(|r| protos.join(r)).filter(|p| p.is_dir()).collect();

    let mut files = Vec::new();
    for root in &roots {
        // Envoy's own messages and the xDS types are the entry points; the rest is reached by import.
        if root.ends_with("data-plane-api") || root.ends_with("xds") {
            collect(root, &mut files)?;
        }
    }
    files.sort();
    files.push(PathBuf::from("proto/typed_struct.proto"));

    let mut protoc = Command::new(protoc_bin_vendored::protoc_bin_path()?);
    protoc
        .arg("--include_imports")
        .arg(format!("--descriptor_set_out={}", out.display()));
    for root in &roots {
        protoc.arg(format!("-I{}", root.display()));
    }
    protoc.arg("-Iproto");
    protoc.arg(format!("-I{}", protoc_bin_vendored::include_path()?.display()));
    let output = protoc.args(&files).output()?;
    if !output.status.success() {
        return Err(format!("protoc failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let set = FileDescriptorSet::decode(std::fs::read(&out)?.as_slice())?;
    write_field_table(&set, &out.with_file_name("envoy.fields"))
}

/// Writes the names of all messages and fields as the text that `src/envoy/fields.rs` searches: a line for each message in
/// the order of names, `NAME NUMBER:FIELD[=LINE] …`, where LINE is the line of the field's own message type. A map's line
/// is its entry's. The offsets of the lines go beside it.
fn write_field_table(set: &FileDescriptorSet, out: &Path) -> Result<()> {
    let mut messages: BTreeMap<String, &DescriptorProto> = BTreeMap::new();
    for file in &set.file {
        for message in &file.message_type {
            collect_messages(file.package(), message, &mut messages);
        }
    }
    let lines: BTreeMap<&str, usize> = messages.keys().enumerate().map(|(i, n)| (n.as_str(), i)).collect();
    let (mut text, mut offsets) = (String::new(), Vec::new());
    for (name, message) in &messages {
        offsets.extend_from_slice(&u32::try_from(text.len())?.to_le_bytes());
        text.push_str(name);
        for field in &message.field {
            write!(text, " {}:{}", field.number(), field.name())?;
            if field.r#type() == Type::Message {
                let line = lines
                    .get(field.type_name().trim_start_matches('.'))
                    .ok_or("a field's message type is not in the set")?;
                write!(text, "={line}")?;
            }
            if field.label() == Label::Repeated {
                text.push('*');
            }
        }
        text.push('\n');
    }
    std::fs::write(out, text)?;
    std::fs::write(out.with_extension("offsets"), offsets)?;
    Ok(())
}

fn collect_messages<'a>(scope: &str, message: &'a DescriptorProto, into: &mut BTreeMap<String, &'a DescriptorProto>) {
    let name = format!("{scope}.{}", message.name());
    for nested in &message.nested_type {
        collect_messages(&name, nested, into);
    }
    into.insert(name, message);
}

/// The small messages that `envoy-types` does not have: Istio's certificate service and name table, and `TypedStruct`.
fn own_messages() -> Result<()> {
    println!("cargo:rerun-if-changed=proto");
    let mut config = tonic_prost_build::Config::new();
    config.protoc_executable(protoc_bin_vendored::protoc_bin_path()?);
    config.btree_map([".istio.networking.nds.v1"]);
    config.enable_type_names();
    config.type_name_domain([".istio", ".xds"], "type.googleapis.com");
    config.extern_path(".google.protobuf", "::envoy_types::pb::google::protobuf");
    let include = protoc_bin_vendored::include_path()?;
    tonic_prost_build::configure()
        .compile_well_known_types(true)
        .compile_with_config(
            config,
            &[
                Path::new("proto/ca.proto"),
                Path::new("proto/nds.proto"),
                Path::new("proto/typed_struct.proto"),
            ],
            &[Path::new("proto"), &include],
        )?;
    Ok(())
}

/// Asks cargo where the package that ships the `.proto` files is unpacked.
fn envoy_types_dir() -> Result<PathBuf> {
    let output = Command::new(env::var("CARGO")?)
        .args(["metadata", "--format-version", "1", "--offline", "--manifest-path"])
        .arg(Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("Cargo.toml"))
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let manifest = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|p| p["name"] == "envoy-types")
        .and_then(|p| p["manifest_path"].as_str())
        .ok_or("envoy-types is not among the dependencies")?;
    Ok(Path::new(manifest)
        .parent()
        .ok_or("manifest without folder")?
        .to_owned())
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, into)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            into.push(path);
        }
    }
    Ok(())
}
