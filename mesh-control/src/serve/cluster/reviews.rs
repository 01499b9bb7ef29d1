//! Whose token is this? The API server says so (`authentication.k8s.io/v1` `TokenReview`).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::Client;
use kube::api::{Api, PostParams};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::serve::ca::token::{AUDIENCE, ServiceAccount};

/// An answer is good for so long: a proxy that connects for certificates and for configuration asks but once.
const KEPT: Duration = Duration::from_secs(30);
/// Nobody waits longer for the API server.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the API server, and remembers the answers for a while.
pub struct Reviews {
    api: Api<TokenReview>,
    kept: Mutex<HashMap<[u8; 32], (ServiceAccount, Instant)>>,
}

impl Reviews {
    pub(in crate::serve) fn new(client: Client) -> Self {
        Reviews {
            api: Api::all(client),
            kept: Mutex::default(),
        }
    }

    /// The service account that a token proves.
    ///
    /// # Errors
    /// With the reason, for the caller to read.
    pub(in crate::serve) async fn check(&self, token: &str) -> Result<ServiceAccount, String> {
        let key: [u8; 32] = Sha256::digest(token).into();
        {
            let mut kept = self.kept.lock();
            kept.retain(|_, (_, at)| at.elapsed() < KEPT);
            if let Some((account, _)) = kept.get(&key) {
                return Ok(account.clone());
            }
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                audiences: Some(vec![AUDIENCE.to_owned()]),
            },
            ..TokenReview::default()
        };
        let params = PostParams::default();
        let asked = tokio::time::timeout(PATIENCE, self.api.create(&params, &review)).await;
        let answer = asked
            .map_err(|_| "the API server does not say whose token it is".to_owned())?
            .map_err(|error| format!("the API server does not say whose token it is: {error}"))?;
        let account = account_of(answer.status.unwrap_or_default())?;
        self.kept.lock().insert(key, (account.clone(), Instant::now()));
        Ok(account)
    }
}

fn account_of(status: TokenReviewStatus) -> Result<ServiceAccount, String> {
    if status.authenticated != Some(true) {
        let why = status.error.unwrap_or_else(|| "it is not valid".to_owned());
        return Err(format!(
            "the API server refuses the token: {why}; it must be a service account's, for audience {AUDIENCE}"
        ));
    }
    // A server that knows no audiences leaves them out, and has not looked at them.
    if !status.audiences.unwrap_or_default().iter().any(|a| a == AUDIENCE) {
        return Err(format!("the token is for another audience; the CA takes {AUDIENCE}"));
    }
    let name = status.user.and_then(|u| u.username).unwrap_or_default();
    let account = name
        .strip_prefix("system:serviceaccount:")
        .map(|n| n.replacen(':', "/", 1));
    account
        .and_then(|a| a.parse().ok())
        .ok_or_else(|| format!("the token's user {name:?} is no service account"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_an_authenticated_service_account_with_our_audience_counts() {
        let of = |value| account_of(serde_json::from_value(value).expect("a status"));
        let good = json!({"authenticated": true, "audiences": ["istio-ca"],
            "user": {"username": "system:serviceaccount:shop:web"}});
        let account = of(good.clone()).expect("proven");
        assert_eq!((account.namespace.as_str(), account.name.as_str()), ("shop", "web"));
        for (field, value, reason) in [
            ("authenticated", json!(false), "refuses the token"),
            ("audiences", json!(["api"]), "another audience"),
            ("audiences", json!([]), "another audience"),
            ("user", json!({"username": "system:node:a"}), "no service account"),
        ] {
            let mut bad = good.clone();
            bad[field] = value;
            let error = of(bad).expect_err(field);
            assert!(error.contains(reason), "{error}");
        }
    }
}
