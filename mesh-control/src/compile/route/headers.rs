//! Header changes of a rule or a destination.

use mesh_api::envoy::format::Template;
use mesh_api::istio::{HeaderOperations, Headers};

use super::super::pb::{core, route};

/// Changes in Envoy's terms.
pub(super) struct Changes<'a> {
    request: Option<&'a HeaderOperations>,
    response: Option<&'a HeaderOperations>,
}

impl<'a> Changes<'a> {
    pub(super) fn of(headers: Option<&'a Headers>) -> Self {
        Changes {
            request: headers.and_then(|h| h.request.as_ref()),
            response: headers.and_then(|h| h.response.as_ref()),
        }
    }

    /// A new authority, which is no header to Envoy.
    pub(super) fn authority(&self) -> Option<&'a str> {
        let request = self.request?;
        request
            .set
            .iter()
            .chain(&request.add)
            .find(|(name, _)| is_authority(name))
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn apply_to_route(&self, out: &mut route::Route) {
        out.request_headers_to_add.extend(added(self.request));
        out.request_headers_to_remove.extend(removed(self.request));
        out.response_headers_to_add.extend(added(self.response));
        out.response_headers_to_remove.extend(removed(self.response));
    }

    pub(super) fn apply_to_weight(&self, out: &mut route::weighted_cluster::ClusterWeight) {
        out.request_headers_to_add.extend(added(self.request));
        out.request_headers_to_remove.extend(removed(self.request));
        out.response_headers_to_add.extend(added(self.response));
        out.response_headers_to_remove.extend(removed(self.response));
        out.host_rewrite_specifier = self.authority().map(|authority| {
            route::weighted_cluster::cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(authority.to_owned())
        });
    }
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority")
}

/// What is wrong with a value: the proxy would refuse the whole table for an operator that it does not know.
pub(in super::super) fn misread(value: &str) -> Option<String> {
    Template::compile(value).err()
}

fn added(from: Option<&HeaderOperations>) -> Vec<core::HeaderValueOption> {
    use core::header_value_option::HeaderAppendAction;
    let Some(from) = from else { return Vec::new() };
    let option = |name: &str, value: &str, action: HeaderAppendAction| core::HeaderValueOption {
        header: Some(core::HeaderValue {
            key: name.to_owned(),
            value: value.to_owned(),
            ..Default::default()
        }),
        append_action: action.into(),
        ..Default::default()
    };
    let set = from
        .set
        .iter()
        .filter(|(name, value)| !is_authority(name) && misread(value).is_none())
        .map(|(n, v)| option(n, v, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = from
        .add
        .iter()
        .filter(|(name, value)| !is_authority(name) && misread(value).is_none())
        .map(|(n, v)| option(n, v, HeaderAppendAction::AppendIfExistsOrAdd));
    set.chain(add).collect()
}

fn removed(from: Option<&HeaderOperations>) -> Vec<String> {
    from.map(|f| f.remove.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_cannot_be_read_are_left_out() {
        let operations = |value: &str| HeaderOperations {
            set: [("x-a".to_owned(), value.to_owned())].into(),
            ..Default::default()
        };
        assert_eq!(added(Some(&operations("100%%"))).len(), 1);
        assert_eq!(added(Some(&operations("%REQ(x-b)%"))).len(), 1);
        assert_eq!(added(Some(&operations("100%"))).len(), 0);
        assert_eq!(added(Some(&operations("%NONE%"))).len(), 0);
    }
}
