//! A stock client library against a server process: publish, request, streams, pull consumers and buckets, through
//! nothing but the library's interface.

mod common;

use async_nats::jetstream::{self, Context, consumer, kv, stream};
use async_nats::{Client, ConnectError, ConnectOptions};
use common::{PATIENCE, Scratch, Server};
use futures_util::StreamExt;

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn block_on(test: impl Future<Output = Outcome>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bounded = async { tokio::time::timeout(PATIENCE, test).await.expect("in time") };
    runtime.block_on(bounded).unwrap();
}

/// A connection that gives a busy machine its time.
async fn connect(server: &Server) -> Result<Client, ConnectError> {
    let options = ConnectOptions::new().connection_timeout(PATIENCE).request_timeout(Some(PATIENCE));
    options.connect(server.client_addr()).await
}

fn context(client: Client) -> Context {
    let mut context = jetstream::new(client);
    context.set_timeout(PATIENCE);
    context
}

fn server(dir: &Scratch) -> Server {
    Server::start(dir, "one", &["-a", "127.0.0.1", "-p", "-1", "-js", "-sd", &dir.path("store")])
}

#[test]
fn core_messages_and_requests() {
    let dir = Scratch::new("stock-core");
    let server = server(&dir);
    block_on(async {
        let client = connect(&server).await?;
        let mut service = client.subscribe("echo").await?;
        client.flush().await?;
        let other = connect(&server).await?;
        let answers = client.clone();
        tokio::task::spawn(async move {
            while let Some(request) = service.next().await {
                if let Some(reply) = request.reply {
                    let _ = answers.publish(reply, request.payload).await;
                }
            }
        });
        assert_eq!(other.request("echo", "hello".into()).await?.payload, "hello");
        assert!(other.request("nobody", "".into()).await.is_err());
        Ok(())
    });
}

#[test]
fn a_stream_and_a_pull_consumer() {
    let dir = Scratch::new("stock-stream");
    let server = server(&dir);
    block_on(async {
        let client = connect(&server).await?;
        let js = context(client);
        let config = stream::Config { name: "S".into(), subjects: vec!["s.*".into()], ..Default::default() };
        let mut stream = js.create_stream(config).await?;
        for n in 0..100 {
            let ack = js.publish(format!("s.{}", n % 3), format!("{n}").into()).await?.await?;
            assert_eq!(ack.sequence, n + 1);
        }
        assert_eq!(stream.info().await?.state.messages, 100);
        let config = consumer::pull::Config { durable_name: Some("C".into()), ..Default::default() };
        let consumer = stream.create_consumer(config).await?;
        let mut messages = consumer.fetch().max_messages(100).expires(PATIENCE / 2).messages().await?;
        let mut seen = 0;
        while let Some(message) = messages.next().await {
            let message = message?;
            assert_eq!(message.payload, format!("{seen}"));
            message.ack().await?;
            seen += 1;
        }
        assert_eq!(seen, 100);
        Ok(())
    });
}

#[test]
fn a_bucket_of_keys() {
    let dir = Scratch::new("stock-kv");
    let server = server(&dir);
    block_on(async {
        let js = context(connect(&server).await?);
        let config = kv::Config { bucket: "B".into(), history: 5, ..Default::default() };
        let bucket = js.create_key_value(config).await?;
        let first = bucket.put("colour", "red".into()).await?;
        bucket.update("colour", "blue".into(), first).await?;
        assert!(bucket.update("colour", "green".into(), first).await.is_err(), "an old revision");
        assert_eq!(bucket.get("colour").await?.as_deref(), Some(b"blue".as_slice()));
        bucket.delete("colour").await?;
        assert_eq!(bucket.get("colour").await?, None);
        Ok(())
    });
}
