//! The status page: one file, with all that it needs.

use std::sync::LazyLock;

use base64ct::{Base64, Encoding};
use ring::digest::{SHA256, digest};

use crate::admin::http::{Body, Response};

const PAGE: &str = include_str!("page.html");

/// The page runs its own script, has its own style, talks to us and to nobody else. Both are known by their digests,
/// so that nothing else runs, whatever a client calls itself.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest_of = |tag: &str| {
        let (begin, end) = (format!("<{tag}>"), format!("</{tag}>"));
        let inside = PAGE.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
        let text = inside.map_or("", |(text, _)| text);
        Base64::encode_string(digest(&SHA256, text.as_bytes()).as_ref())
    };
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        digest_of("script"),
        digest_of("style")
    )
});

pub(super) fn page() -> Response {
    let response = Response::new("text/html; charset=utf-8", Body::Fixed(PAGE.as_bytes()));
    Response { policy: POLICY.as_str(), ..response }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_one_file_with_one_script_and_one_style() {
        for tag in ["script", "style"] {
            assert_eq!(PAGE.matches(&format!("<{tag}")).count(), 1, "{tag}");
        }
        for outside in ["https:", " src=", "@import", "url(", "style=", "onclick=\"", "innerHTML", "eval("] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
        let policy = page().policy;
        assert_eq!(policy.matches("sha256-").count(), 2);
        assert!(!policy.contains("unsafe"));
    }
}
