//! `analyze`: what is wrong with objects, under Istio's message codes.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Result, bail};
use jiff::Timestamp;
use mesh_control::analyze::{CODES, Level, Message, analyze};
use serde_json::{Value, json};

use crate::cluster::{Cluster, ClusterOptions};
use crate::objects::{self, Objects};
use crate::output::{Done, Form};
use crate::table;

/// istioctl's exit code for findings as bad as the threshold.
const FOUND: u8 = 79;

/// What to look at.
#[derive(clap::Args)]
#[command(after_help = "\
Exit code: 0, or 79 when there is a finding as bad as --failure-threshold.

Examples:
  meshctl analyze                         the cluster, this namespace
  meshctl analyze -A                      the cluster, all namespaces
  meshctl analyze web.yaml                the cluster as it would be with this file
  meshctl analyze --use-kube=false mesh/  a folder by itself")]
pub(crate) struct Options {
    /// Files and folders of YAML
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Look at the cluster too [default: true, if there is one]
    #[arg(long = "use-kube", short = 'k', value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    use_kube: Option<bool>,
    /// All namespaces
    #[arg(long = "all-namespaces", short = 'A')]
    all_namespaces: bool,
    /// Folders below folders too; they are always read
    #[arg(long, short = 'R', hide = true)]
    recursive: bool,
    /// Say nothing of CODE=Kind name.namespace, with * for any part: -S "IST0103=Pod *.shop"
    #[arg(long, short = 'S', value_name = "WHAT")]
    suppress: Vec<Suppress>,
    /// List what is looked for
    #[arg(long = "list-analyzers", short = 'L')]
    list: bool,
    /// Findings as bad as this make the exit code 79
    #[arg(
        long = "failure-threshold",
        value_enum,
        value_name = "LEVEL",
        default_value = "error",
        ignore_case = true
    )]
    failure_threshold: Threshold,
    /// Findings less bad than this are not shown
    #[arg(
        long = "output-threshold",
        value_enum,
        value_name = "LEVEL",
        default_value = "info",
        ignore_case = true
    )]
    output_threshold: Threshold,
    /// MeshConfig, in place of that of the ConfigMap istio
    #[arg(long = "meshConfigFile", alias = "mesh-config", value_name = "FILE")]
    mesh_config: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Threshold {
    Info,
    Warning,
    Error,
}

impl Threshold {
    fn reached(self, level: Level) -> bool {
        let least = match self {
            Threshold::Info => Level::Info,
            Threshold::Warning => Level::Warning,
            Threshold::Error => Level::Error,
        };
        level >= least
    }
}

/// Reads, analyzes, renders.
pub(crate) async fn run(options: &Options, cluster: &ClusterOptions) -> Result<Done> {
    if options.list {
        let row = |code: &mesh_control::analyze::Code| {
            [code.code.to_owned(), code.level.to_string(), code.name.to_owned()].to_vec()
        };
        let rows: Vec<_> = CODES.iter().map(row).collect();
        return Ok(table::render(&["CODE", "LEVEL", "NAME"], &rows).into());
    }
    // Nothing said, everything is looked at.
    let mut namespaces: BTreeSet<String> = cluster.namespace.iter().cloned().collect();
    let mut whole = None;
    let wanted = options.use_kube.unwrap_or(true);
    if !wanted && options.files.is_empty() {
        bail!("there is nothing to analyze: name files or folders, or leave --use-kube=false out");
    }
    if wanted {
        match Cluster::connect(cluster).await {
            Ok(cluster) => {
                if options.files.is_empty() {
                    namespaces.insert(cluster.namespace.clone());
                }
                whole = Some(objects::of_cluster(&cluster).await?);
            }
            // The files by themselves are worth something, unless the cluster was asked for.
            Err(error) if options.use_kube.is_none() && !options.files.is_empty() => {
                let _ = writeln!(std::io::stderr(), "meshctl: the files by themselves: {error:#}");
            }
            Err(error) => return Err(error),
        }
    }
    let of_cluster = whole.is_some();
    let files = objects::of_files(&options.files)?;
    if of_cluster && namespaces.is_empty() {
        // Files in a cluster: what they have to do with.
        namespaces.extend(files.objects.iter().map(|o| o.namespace().to_owned()));
    }
    if options.all_namespaces {
        namespaces.clear();
    }
    let loaded = objects::with_files(whole.unwrap_or_default(), files, Timestamp::now());
    let objects = Objects::of(loaded, options.mesh_config.clone());
    let mut messages = analyze(&objects.store, &objects.loaded, of_cluster);
    messages.retain(|m| options.shows(m, &namespaces));
    let failed = messages.iter().any(|m| options.failure_threshold.reached(m.code.level));
    let subject = options.subject(&namespaces);
    let text = match options.form.structured() {
        None => lines(&messages, &subject),
        Some(form) => form.write(&document(&messages))?,
    };
    let code = if failed {
        let _ = writeln!(std::io::stderr(), "meshctl: issues were found when analyzing {subject}");
        FOUND
    } else {
        0
    };
    Ok(Done { text, code })
}

impl Options {
    fn shows(&self, message: &Message, namespaces: &BTreeSet<String>) -> bool {
        let object = Named::of(&message.diagnostic.object);
        // What a file of the command line says is always of interest.
        let here = namespaces.is_empty()
            || namespaces.contains(object.namespace)
            || !message.diagnostic.file.as_os_str().is_empty();
        here && self.output_threshold.reached(message.code.level)
            && !self.suppress.iter().any(|s| s.matches(message.code.code, &object))
    }

    /// What was looked at.
    fn subject(&self, namespaces: &BTreeSet<String>) -> String {
        let files: Vec<String> = self.files.iter().map(|f| f.display().to_string()).collect();
        match (files.is_empty(), namespaces.first()) {
            (false, _) => files.join(", "),
            (true, Some(namespace)) => format!("namespace: {namespace}"),
            (true, None) => "all namespaces".to_owned(),
        }
    }
}

/// `Kind namespace/name`, taken apart. A Namespace is in itself.
struct Named<'a> {
    kind: &'a str,
    namespace: &'a str,
    name: &'a str,
}

impl<'a> Named<'a> {
    fn of(object: &'a str) -> Self {
        let (kind, rest) = object.split_once(' ').unwrap_or((object, ""));
        let (namespace, name) = rest.split_once('/').unwrap_or((rest, rest));
        Named { kind, namespace, name }
    }
}

/// What is not to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Suppress {
    code: String,
    kind: String,
    name: String,
    /// Empty for objects outside of namespaces.
    namespace: String,
}

impl std::str::FromStr for Suppress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let help = || format!("{text:?}: write CODE=Kind name.namespace, such as \"IST0103=Pod *.shop\"");
        let (code, object) = text.split_once('=').ok_or_else(help)?;
        let (kind, rest) = object.split_once(' ').unwrap_or((object, "*.*"));
        let (name, namespace) = rest.rsplit_once('.').unwrap_or((rest, "*"));
        if code.is_empty() || kind.is_empty() {
            return Err(help());
        }
        let [code, kind, name, namespace] = [code, kind, name, namespace].map(str::to_owned);
        Ok(Suppress {
            code,
            kind,
            name,
            namespace,
        })
    }
}

impl Suppress {
    fn matches(&self, code: &str, object: &Named<'_>) -> bool {
        let part = |pattern: &str, text: &str| match pattern.split_once('*') {
            None => pattern == text,
            Some((first, last)) => {
                text.len() >= first.len() + last.len() && text.starts_with(first) && text.ends_with(last)
            }
        };
        part(&self.code, code)
            && part(&self.kind, object.kind)
            && part(&self.name, object.name)
            && part(&self.namespace, object.namespace)
    }
}

fn lines(messages: &[Message], subject: &str) -> String {
    if messages.is_empty() {
        return format!("✔ No validation issues found when analyzing {subject}.\n");
    }
    messages.iter().map(|m| format!("{m}\n")).collect()
}

/// istioctl's fields.
fn document(messages: &[Message]) -> Value {
    let one = |message: &Message| {
        let found = &message.diagnostic;
        let object = Named::of(&found.object);
        let origin = if object.namespace == object.name {
            format!("{} {}", object.kind, object.name)
        } else {
            format!("{} {}.{}", object.kind, object.name, object.namespace)
        };
        let text = if found.field.is_empty() {
            found.message.clone()
        } else {
            format!("{}: {}", found.field, found.message)
        };
        let mut out = json!({
            "code": message.code.code,
            "level": message.code.level.to_string(),
            "message": text,
            "name": message.code.name,
            "origin": origin.trim(),
        });
        if !found.file.as_os_str().is_empty() {
            out["reference"] = json!(format!("{}:{}", found.file.display(), found.line));
        }
        if message.code.code.starts_with("IST") {
            let code = message.code.code.to_lowercase();
            out["documentationUrl"] = json!(format!(
                "https://istio.io/latest/docs/reference/config/analysis/{code}/"
            ));
        }
        out
    };
    messages.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_to_be_said() {
        let matches = |pattern: &str, code: &str, object: &str| {
            let suppress: Suppress = pattern.parse().unwrap_or_else(|e| panic!("{pattern}: {e}"));
            suppress.matches(code, &Named::of(object))
        };
        for (pattern, code, object, expected) in [
            ("IST0103=Pod *.shop", "IST0103", "Pod shop/web-1", true),
            ("IST0103=Pod *.shop", "IST0103", "Pod other/web-1", false),
            ("IST0103=Pod *.shop", "IST0102", "Pod shop/web-1", false),
            ("IST0103=Pod web-*.*", "IST0103", "Pod other/web-1", true),
            ("IST0102=Namespace other", "IST0102", "Namespace other", true),
            ("IST0102=Namespace other", "IST0102", "Namespace shop", false),
            ("*=*", "IST0102", "Namespace shop", true),
        ] {
            assert_eq!(matches(pattern, code, object), expected, "{pattern} {code} {object}");
        }
        for bad in ["", "IST0101", "=Pod a", "IST0101="] {
            assert!(bad.parse::<Suppress>().is_err(), "{bad}");
        }
    }

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        cluster: ClusterOptions,
    }

    fn parse(words: &[&str]) -> Line {
        use clap::Parser as _;
        Line::try_parse_from([&["analyze"], words].concat()).expect("a command line")
    }

    #[tokio::test]
    async fn files_by_themselves() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("vs.yaml");
        let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web, namespace: shop}\n\
                    spec:\n  hosts: [web]\n  http: [{route: [{destination: {host: gone}}]}]\n";
        std::fs::write(&file, text).expect("written");
        let run = async |more: &[&str]| {
            let file = file.display().to_string();
            let line = parse(&[&["--use-kube=false", &file], more].concat());
            run(&line.options, &line.cluster).await.expect("analyzed")
        };
        let done = run(&[]).await;
        assert_eq!(done.code, FOUND);
        let place = format!(
            "Error [IST0101] (VirtualService shop/web {}:6) spec.http[0]",
            file.display()
        );
        assert!(done.text.starts_with(&place), "{}", done.text);
        let done = run(&["-o", "json"]).await;
        let value: Value = serde_json::from_str(&done.text).expect("JSON");
        assert_eq!(
            (&value[0]["code"], &value[0]["origin"]),
            (&json!("IST0101"), &json!("VirtualService web.shop"))
        );
        let done = run(&["-S", "IST0101=VirtualService web.shop"]).await;
        assert_eq!(done.code, 0);
        assert!(
            done.text.starts_with("✔ No validation issues found when analyzing "),
            "{}",
            done.text
        );
        let nothing = parse(&["--use-kube=false"]);
        let error = super::run(&nothing.options, &nothing.cluster).await;
        assert!(
            error
                .expect_err("nothing")
                .to_string()
                .contains("name files or folders")
        );
        std::fs::write(&file, text.replace("gone", "web")).expect("written");
        assert_eq!(
            run(&["--output-threshold", "Error"]).await.code,
            FOUND,
            "there is no service web either"
        );
    }
}
