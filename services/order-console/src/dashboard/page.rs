//! The page: files of the binary. It loads nothing from other servers.

use std::sync::Arc;

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::App;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

struct File {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

macro_rules! files {
    ($($path:literal => $name:literal as $content_type:ident;)*) => {
        &[$(File {
            path: $path,
            content_type: $content_type,
            text: include_str!(concat!("page/", $name)),
        }),*]
    };
}

const FILES: &[File] = files! {
    "/" => "index.html" as HTML;
    "/style.css" => "style.css" as CSS;
    "/icon.svg" => "icon.svg" as SVG;
    "/app.js" => "app.js" as SCRIPT;
    "/attention.js" => "attention.js" as SCRIPT;
    "/chart.js" => "chart.js" as SCRIPT;
    "/client.js" => "client.js" as SCRIPT;
    "/control.js" => "control.js" as SCRIPT;
    "/dialog.js" => "dialog.js" as SCRIPT;
    "/dlq.js" => "dlq.js" as SCRIPT;
    "/dom.js" => "dom.js" as SCRIPT;
    "/format.js" => "format.js" as SCRIPT;
    "/group.js" => "group.js" as SCRIPT;
    "/letter.js" => "letter.js" as SCRIPT;
    "/letters.js" => "letters.js" as SCRIPT;
    "/live.js" => "live.js" as SCRIPT;
    "/login.js" => "login.js" as SCRIPT;
    "/notices.js" => "notices.js" as SCRIPT;
    "/orders.js" => "orders.js" as SCRIPT;
    "/overview.js" => "overview.js" as SCRIPT;
    "/strip.js" => "strip.js" as SCRIPT;
    "/trends.js" => "trends.js" as SCRIPT;
    "/unknown.js" => "unknown.js" as SCRIPT;
};

pub(super) fn routes() -> Router<Arc<App>> {
    FILES.iter().fold(Router::new(), |router, file| {
        router.route(file.path, get(async || serve(file.content_type, file.text)))
    })
}

fn serve(content_type: &'static str, text: &'static str) -> Response {
    // Another version of the binary has other files at the same addresses.
    ([(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-cache")], text).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    #[test]
    fn every_file_of_the_page_is_served_and_asks_for_none_that_is_not() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/dashboard/page");
        let there: BTreeSet<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| format!("/{}", entry.unwrap().file_name().to_string_lossy()))
            .map(|path| if path == "/index.html" { "/".to_owned() } else { path })
            .collect();
        let served: BTreeSet<String> = FILES.iter().map(|file| file.path.to_owned()).collect();
        assert_eq!(there, served);
        for file in FILES {
            let modules = file.text.split("from \"./").skip(1);
            for module in modules.filter_map(|text| text.split('"').next()) {
                assert!(served.contains(&format!("/{module}")), "{} wants {module}", file.path);
            }
        }
    }

    #[test]
    fn the_page_asks_for_nothing_by_an_address_that_begins_at_the_root() {
        for file in FILES {
            for word in ["=\"/", "url(/", "(\"/", "(`/", "\"/api", "`/api", "'/"] {
                assert!(!file.text.contains(word), "{} has {word}", file.path);
            }
        }
    }

    #[test]
    fn the_page_never_parses_texts_as_html() {
        for file in FILES {
            for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!file.text.contains(word), "{} has {word}", file.path);
            }
        }
    }
}
