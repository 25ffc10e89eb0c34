//! The settings of an image in a config.json. SPEC: image-spec conversion.md.

use serde_json::{Value, json};

/// Puts what an image's config says into the document of a bundle. `passwd` and `group` are those of the image's root, as
/// far as it is unpacked: they give names their numbers. An entry of `reserved` is the name of an annotation, or ends with a
/// dot and is the begin of names. Labels with such names are left out, and returned: the author of an image must not set them.
///
/// # Errors
/// The user is a name that is not in them.
pub fn merge(
    document: &mut Value,
    image: &Value,
    passwd: &str,
    group: &str,
    reserved: &[&str],
) -> Result<Vec<String>, String> {
    let config = &image["config"];
    let list = |name: &str| config[name].as_array().cloned().unwrap_or_default();
    let args = [list("Entrypoint"), list("Cmd")].concat();
    if !args.is_empty() {
        document["process"]["args"] = args.into();
    }
    let env = list("Env");
    if !env.is_empty() {
        // the image's variables replace those of the same name
        let name = |entry: &Value| entry.as_str().unwrap_or_default().split('=').next().unwrap_or_default().to_owned();
        let own = document["process"]["env"].as_array().cloned().unwrap_or_default();
        let kept = own.into_iter().filter(|entry| !env.iter().any(|other| name(other) == name(entry)));
        document["process"]["env"] = env.iter().cloned().chain(kept).collect();
    }
    if let Some(directory) = config["WorkingDir"].as_str().filter(|directory| !directory.is_empty()) {
        document["process"]["cwd"] = directory.into();
    }
    if let Some(user) = config["User"].as_str().filter(|user| !user.is_empty()) {
        let (uid, gid) = ids(user, passwd, group)?;
        document["process"]["user"] = json!({"uid": uid, "gid": gid});
    }
    Ok(annotate(document, image, reserved))
}

/// Annotations with these names command a runtime, CRIU or systemd.
const RESERVED: [&str; 4] = ["run.oci.", "org.coracle.", "org.criu.", "org.systemd."];

/// Returns the labels that are left out.
fn annotate(document: &mut Value, image: &Value, reserved: &[&str]) -> Vec<String> {
    let is_reserved = |label: &str| {
        let is = |name: &&str| label == *name || name.ends_with('.') && label.starts_with(name);
        RESERVED.iter().chain(reserved).any(is)
    };
    let mut left_out = Vec::new();
    let mut annotations = serde_json::Map::new();
    for name in ["os", "architecture", "author", "created"] {
        if let Some(text) = image[name].as_str() {
            annotations.insert(format!("org.opencontainers.image.{name}"), text.into());
        }
    }
    if let Some(signal) = image["config"]["StopSignal"].as_str() {
        annotations.insert("org.opencontainers.image.stopSignal".to_owned(), signal.into());
    }
    if let Some(ports) = image["config"]["ExposedPorts"].as_object() {
        let ports: Vec<&str> = ports.keys().map(String::as_str).collect();
        annotations.insert("org.opencontainers.image.exposedPorts".to_owned(), ports.join(",").into());
    }
    // labels are the user's, and come last
    for (name, value) in image["config"]["Labels"].as_object().into_iter().flatten() {
        if is_reserved(name) {
            left_out.push(name.clone());
        } else {
            annotations.insert(name.clone(), value.clone());
        }
    }
    if !annotations.is_empty() {
        document["annotations"] = annotations.into();
    }
    left_out
}

/// `USER[:GROUP]`, each a name or a number.
fn ids(user: &str, passwd: &str, group: &str) -> Result<(u32, u32), String> {
    let (user, named_group) = user.split_once(':').map_or((user, None), |(user, group)| (user, Some(group)));
    let line = |text: &str, name: &str| {
        let found = text.lines().find(|line| line.split(':').next() == Some(name)).map(str::to_owned);
        found.map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>())
    };
    let number = |fields: &[String], n: usize| fields.get(n).and_then(|text| text.parse::<u32>().ok());
    let (uid, own) = match user.parse::<u32>() {
        Ok(uid) => {
            let by_number = passwd.lines().find(|line| line.split(':').nth(2) == Some(user));
            (uid, by_number.and_then(|line| line.split(':').nth(3)?.parse().ok()).unwrap_or(0))
        }
        Err(_) => {
            line(passwd, user).and_then(|fields| Some((number(&fields, 2)?, number(&fields, 3)?))).ok_or_else(|| {
                format!("the image's user {user:?} is not in etc/passwd of the root: unpack the image first")
            })?
        }
    };
    let gid = match named_group {
        None => own,
        Some(name) => name.parse().ok().or_else(|| number(&line(group, name)?, 2)).ok_or_else(|| {
            format!("the image's group {name:?} is not in etc/group of the root: unpack the image first")
        })?,
    };
    Ok((uid, gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_of_an_image_go_to_their_places() {
        let mut document = json!({"process": {"args": ["sh"], "env": ["PATH=/bin", "TERM=xterm"], "cwd": "/",
            "user": {"uid": 0, "gid": 0}}});
        let image = json!({"os": "linux", "architecture": "amd64", "config": {
            "Entrypoint": ["/entry"], "Cmd": ["serve", "-x"], "Env": ["PATH=/usr/bin", "A=b=c"], "WorkingDir": "/srv",
            "User": "web:www", "StopSignal": "SIGQUIT", "ExposedPorts": {"80/tcp": {}}, "Labels": {"a": "b"}}});
        let left_out = merge(&mut document, &image, "web:x:7:8::/:/bin/sh\n", "www:x:9:\n", &[]);
        assert_eq!(left_out, Ok(vec![]));
        assert_eq!(
            document["process"],
            json!({"args": ["/entry", "serve", "-x"], "env": ["PATH=/usr/bin", "A=b=c",
            "TERM=xterm"], "cwd": "/srv", "user": {"uid": 7, "gid": 9}})
        );
        let annotations = &document["annotations"];
        assert_eq!(annotations["org.opencontainers.image.stopSignal"], "SIGQUIT");
        assert_eq!(
            (&annotations["a"], &annotations["org.opencontainers.image.exposedPorts"]),
            (&json!("b"), &json!("80/tcp"))
        );
    }

    #[test]
    fn the_author_of_an_image_sets_no_annotation_that_changes_the_container() {
        let bad = [
            "bundle",
            "org.opencontainers.image.stopSignal",
            "org.systemd.property.ExecStartPre",
            "run.oci.hooks.stdout",
            "run.oci.pidfd_receiver",
            "run.oci.of_tomorrow",
            "org.criu.config",
            "org.coracle.landlock",
        ];
        let good = ["maintainer", "bundle.name", "org.opencontainers.image.title", "org.systemd"];
        let labels: serde_json::Map<_, _> =
            bad.iter().chain(&good).map(|name| ((*name).to_owned(), "x".into())).collect();
        let mut document = json!({});
        let reserved = crate::features().potentially_unsafe_config_annotations;
        let left_out = merge(&mut document, &json!({"config": {"Labels": labels}}), "", "", reserved).unwrap();
        assert_eq!(left_out, bad);
        assert_eq!(document["annotations"].as_object().unwrap().keys().collect::<Vec<_>>(), good);
    }

    #[test]
    fn a_user_is_a_name_or_a_number() {
        let passwd = "root:x:0:0::/:\nweb:x:7:8::/:\n";
        assert_eq!(ids("7", passwd, ""), Ok((7, 8)));
        assert_eq!(ids("5:6", "", ""), Ok((5, 6)));
        assert_eq!(ids("web", passwd, ""), Ok((7, 8)));
        assert!(ids("nobody", passwd, "").unwrap_err().contains("unpack the image first"));
        assert!(ids("0:wheel", passwd, "").is_err());
    }
}
