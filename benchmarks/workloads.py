"""The workloads. Each takes a running broker and returns its figures by name."""

from __future__ import annotations

from benchmarks.bench import Broker, Peer, interest, percentile

Figures = dict[str, float]


def throughput(broker: Broker, count: int = 50_000, **options: object) -> Figures:
    """W1: one publisher as fast as it can, one component that settles each, at the same time."""
    consumer = Peer(broker, "consume", count, name="Sink")
    publisher = Peer(broker, "publish", count, **options)
    cpu = broker.cpu()
    publisher.go()
    published, consumed = publisher.result(), consumer.result()
    used = broker.cpu() - cpu
    return {
        "published/s": count / (published["ended"] - published["began"]),
        "end to end/s": count / (consumed["ended"] - published["began"]),
        "broker us": used / count * 1e6,
        "publisher us": published["cpu"] / count * 1e6,
        "consumer us": consumed["cpu"] / count * 1e6,
        "duplicates": consumed["duplicates"],
    }


def one_by_one(broker: Broker) -> Figures:
    """W1, one message per call, the next one after its confirm."""
    figures = throughput(broker, 3000, window=1)
    return {name: figures[name] for name in ("published/s", "end to end/s")}


def latency(broker: Broker, rate: float = 500, seconds: float = 10) -> Figures:
    """W2: a fixed schedule; times from when a message was due."""
    count = int(rate * seconds)
    consumer = Peer(broker, "consume", count, name="Sink")
    publisher = Peer(broker, "publish", count, rate=rate)
    publisher.go()
    published, consumed = publisher.result(), consumer.result()
    figures = {}
    for name, values in (("receive", consumed["latencies"]), ("confirm", published["latencies"])):
        for share in (0.5, 0.99):
            figures[f"{name} p{share * 100:.0f} ms"] = percentile(values, share) * 1e3
    return figures


def fan_out(broker: Broker, components: int = 5, count: int = 10_000) -> Figures:
    """W3: every message goes to several components."""
    consumers = [
        Peer(broker, "consume", count, name=f"Sink{number}") for number in range(components)
    ]
    publisher = Peer(broker, "publish", count)
    publisher.go()
    published = publisher.result()
    last = max(consumer.result()["ended"] for consumer in consumers)
    return {"published/s": count / (last - published["began"])}


def backlog(broker: Broker, count: int = 200_000) -> Figures:
    """W4: published with nobody there, then drained."""
    interest(broker, "Sink")
    publisher = Peer(broker, "publish", count)
    publisher.go()
    published = publisher.result()
    figures = {"publish/s": count / (published["ended"] - published["began"])}
    figures["broker MiB"] = broker.memory()
    figures["disk MiB"] = broker.disk()
    consumed = Peer(broker, "consume", count, name="Sink").result()
    figures["drain/s"] = count / (consumed["ended"] - consumed["began"])
    figures["broker MiB after"] = broker.memory()
    figures["duplicates"] = consumed["duplicates"]
    return figures


WORKLOADS = {
    "w1": throughput,
    "w1-one": one_by_one,
    "w2": latency,
    "w3": fan_out,
    "w4": backlog,
}
