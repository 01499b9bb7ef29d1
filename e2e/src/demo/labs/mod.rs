//! The labs, in the order of the course.

mod canary;
mod chaos;
mod ingress;
mod inside;
mod mutual_tls;

use super::Lab;

/// All of them; a later one may build on what an earlier one applied.
pub(super) const ALL: [Lab; 6] = [
    Lab {
        name: "ingress",
        title: "webapp behind the ingress gateway",
        about: "A Gateway opens port 80 for all hosts, a VirtualService leads it to webapp, and webapp calls catalog: \
                three proxies take part in every answer.",
        run: ingress::run,
    },
    Lab {
        name: "canary-header",
        title: "canary by header",
        about: "catalog v2 adds an imageUrl to each item. All traffic stays on v1; only requests with the header \
                x-dark-launch: v2 reach v2.",
        run: canary::by_header,
    },
    Lab {
        name: "canary-weight",
        title: "canary by weight",
        about: "The same two versions, shifted by weight while requests go on: 90/10, 50/50, 0/100.",
        run: canary::by_weight,
    },
    Lab {
        name: "chaos-retry",
        title: "chaos, then retries",
        about: "catalog answers half of its requests with 500. A VirtualService with three retries on 5xx hides most of \
                it, and no application is touched.",
        run: chaos::run,
    },
    Lab {
        name: "mutual-tls",
        title: "plaintext or ciphertext on the wire",
        about: "A word is sent from webapp to catalog while the bridge between the pods is recorded. Then STRICT refuses \
                the client that has no sidecar.",
        run: mutual_tls::run,
    },
    Lab {
        name: "inside",
        title: "what one proxy holds",
        about: "The admin port of webapp's proxy tells what it was sent; nothing in the mesh is a black box.",
        run: inside::run,
    },
];
