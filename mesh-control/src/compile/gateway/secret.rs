//! Secrets that a gateway is given: those that its own resources name, of its own namespace.

use mesh_api::k8s::Secret;

use super::super::context::{Context, KUBERNETES};
use super::super::pb::{core, tls};
use super::super::{Compiled, Encoded};
use super::tls::CA_SUFFIX;

/// Adds every secret that a resource names and that exists. One that is missing is reported: handshakes fail until it is there.
pub(super) fn secrets(ctx: &Context<'_>, out: &mut Compiled) {
    for (name, wanted_by) in ctx.wanted_secrets() {
        match secret(ctx, &name) {
            Ok(found) => {
                let full = format!("{KUBERNETES}{name}");
                let secret = tls::Secret {
                    name: full.clone(),
                    r#type: Some(found),
                };
                out.secrets.insert(full, Encoded::new(&secret));
            }
            Err(reason) => {
                for (object, field) in wanted_by {
                    ctx.warn(object, field, reason.clone());
                }
            }
        }
    }
}

/// Reads one. Roots may stand in the secret of the certificate, or in one of their own beside it.
fn secret(ctx: &Context<'_>, name: &str) -> Result<tls::secret::Type, String> {
    let (namespace, plain) = name.split_once('/').unwrap_or((ctx.namespace, name));
    if namespace != ctx.namespace {
        return Err(format!(
            "Secret {name} is in another namespace than the gateway; a gateway is given Secrets of its own namespace {} only",
            ctx.namespace
        ));
    }
    let missing = |what: &str| {
        format!(
            "Secret {namespace}/{plain} {what}; TLS handshakes of this server fail until it is there (it is looked for in the gateway's namespace)"
        )
    };
    if let Some(base) = plain.strip_suffix(CA_SUFFIX) {
        let own = ctx.store.secret(namespace, plain);
        let shared = ctx.store.secret(namespace, base);
        let roots = own
            .into_iter()
            .chain(shared)
            .find_map(|s| value(s, "ca.crt").or_else(|| value(s, "cacert")))
            .ok_or_else(|| missing(&format!("(or {base}) with the key ca.crt is missing")))?;
        return Ok(tls::secret::Type::ValidationContext(
            tls::CertificateValidationContext {
                trusted_ca: Some(inline(roots)),
                ..Default::default()
            },
        ));
    }
    let found = ctx
        .store
        .secret(namespace, plain)
        .ok_or_else(|| missing("does not exist"))?;
    let certificate = value(found, "tls.crt").or_else(|| value(found, "cert"));
    let key = value(found, "tls.key").or_else(|| value(found, "key"));
    let (Some(certificate), Some(key)) = (certificate, key) else {
        return Err(missing("has no tls.crt and tls.key"));
    };
    Ok(tls::secret::Type::TlsCertificate(tls::TlsCertificate {
        certificate_chain: Some(inline(certificate)),
        private_key: Some(inline(key)),
        ..Default::default()
    }))
}

fn value(secret: &Secret, key: &str) -> Option<Vec<u8>> {
    let text = secret.string_data.as_ref().and_then(|d| d.get(key));
    let data = secret.data.as_ref().and_then(|d| d.get(key));
    text.map(|t| t.clone().into_bytes())
        .or_else(|| data.map(|d| d.0.clone()))
        .filter(|bytes| !bytes.is_empty())
}

fn inline(bytes: Vec<u8>) -> core::DataSource {
    core::DataSource {
        specifier: Some(core::data_source::Specifier::InlineBytes(bytes)),
        ..Default::default()
    }
}
