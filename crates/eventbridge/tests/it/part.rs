//! Requests that are taken in part, by something that answers as `EventBridge` does when it is asked for too much.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use ensue_core::Code;
use ensue_core::bus::{Bus, Outgoing};
use ensue_eventbridge::Config;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::given;

/// The requests to publish, as lists of their entries.
type Seen = Arc<Mutex<Vec<Vec<Value>>>>;

/// Refuses each entry whose id begins with `bad`, for now.
async fn throttling() -> (SocketAddr, Seen) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let seen = Seen::default();
    tokio::spawn({
        let seen = Arc::clone(&seen);
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&seen)));
            }
        }
    });
    (address, seen)
}

async fn answer(stream: TcpStream, seen: Seen) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut bytes, mut is_publishing) = (0, false);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim().to_ascii_lowercase();
            is_publishing |= line.contains("awsevents.putevents");
            bytes =
                line.strip_prefix("content-length:").map_or(bytes, |text| text.trim().parse().unwrap_or(0));
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; bytes];
        stream.read_exact(&mut body).await?;
        let body: Value = serde_json::from_slice(&body).expect("the driver writes JSON");
        let answer = if is_publishing {
            let entries = body["Entries"].as_array().expect("there are entries").clone();
            let results: Vec<Value> = entries.iter().map(result).collect();
            seen.lock().expect("nobody panics").push(entries);
            json!({ "FailedEntryCount": 1, "Entries": results })
        } else {
            json!({ "Rules": [{ "Name": "orders", "State": "ENABLED" }] })
        };
        let text = answer.to_string();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", text.len());
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(text.as_bytes()).await?;
    }
}

fn detail(entry: &Value) -> Value {
    serde_json::from_str(entry["Detail"].as_str().expect("it has a detail")).expect("it is JSON")
}

fn result(entry: &Value) -> Value {
    let id = detail(entry)["id"].as_str().expect("it has an id").to_owned();
    if id.starts_with("bad") {
        json!({ "ErrorCode": "ThrottlingException", "ErrorMessage": "Rate exceeded" })
    } else {
        json!({ "EventId": id })
    }
}

#[tokio::test]
async fn of_a_request_that_is_taken_in_part_each_message_has_its_answer_and_no_key_is_overtaken() {
    let (address, seen) = throttling().await;
    let config = Config::new(format!("aws://us-east-1?endpoint=http://{address}")).keys("AKIA", "for-tests");
    let bus = config.open().await.expect("the address is understood");
    let event = |key: &str, id: String| given::event("shop", key, &id, "{\"total\":7}");
    let mut batch: Vec<Outgoing> = Vec::new();
    for number in 0..3 {
        for key in 0..25 {
            let word = if key == 7 && number == 1 { "bad" } else { "good" };
            batch.push(event(&format!("K{key}"), format!("{word}-{key}-{number}")));
        }
    }
    let answers = bus.publish(batch).await;
    let failed: Vec<(usize, Code)> = answers
        .iter()
        .enumerate()
        .filter_map(|(index, answer)| Some((index, answer.as_ref().err()?.code())))
        .collect();
    assert_eq!(failed, [(32, Code::BUS_UNREACHABLE), (57, Code::BUS_UNREACHABLE)]);
    let behind = answers.get(57).and_then(|answer| answer.as_ref().err());
    assert!(behind.is_some_and(ensue_core::Error::is_retryable), "both may be sent again: {behind:?}");
    let requests = seen.lock().expect("nobody panics").clone();
    assert_eq!(requests.iter().map(Vec::len).sum::<usize>(), 74, "the one behind the failure was not sent");
    for request in requests {
        let mut keys: Vec<String> =
            request.iter().map(|entry| detail(entry)["subject"].to_string()).collect();
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert!(count <= 10 && keys.len() == count, "no two of one key: {keys:?}");
    }
}

#[tokio::test]
async fn a_profile_that_is_not_there_is_a_login_that_is_refused() {
    let config =
        Config::new("aws://us-east-1?endpoint=http://127.0.0.1:9").profile("ensue-has-no-such-profile");
    let bus = config.open().await.expect("the address is understood");
    let answer = bus.publish(vec![given::event("shop", "A", "one", "7")]).await.remove(0);
    let error = answer.expect_err("nobody can say who we are");
    assert_eq!(error.code(), Code::BUS_DENIED, "{error:?}");
    assert!(error.fix().contains("AWS_ACCESS_KEY_ID"), "{}", error.fix());
}
