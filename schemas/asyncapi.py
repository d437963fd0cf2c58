"""The AsyncAPI 3.0 document of what Kafka carries: one channel for each topic of the catalogue."""

from pathlib import Path
from typing import Any

import orjson

from schemas import event, rejected
from schemas.catalogue import Catalogue, Major
from schemas.fields import Json
from schemas.report import IDENTIFIER, load
from schemas.times import CANONICAL
from schemas.words import Kind, Stage

VERSION = "1.0.0"  # of the contract, not of the program
EXAMPLES = Path(__file__).parent / "examples"
MESSAGE, REJECTED = "report", "rejected"

ABOUT = """\
网格案件上报经校验、落盘后发布到这些主题：每个部件或事件大类一个主题。

Reports of repairs and incidents, validated and kept safe, published to one topic per kind and major class.

## 消费者守则 / What a consumer must do

1. **次序**：键为 `case_id`，同一案件在同一主题内有序。案件改了类别或类型就会换主题：\
此时以 `journal-seq` 排序。
   **Order**: the key is `case_id`; order is kept per case and topic. A case that changes its category or kind changes
   its topic: then `journal-seq` orders it across topics.
2. **去重**：至少一次投递。对每个 **(journal-id, 主题, 分区)** 只记一个数：\
已见过的最大 `journal-seq`；不大于它的即为重复，丢弃。
   **Duplicates**: delivery is at least once. Keep one number per **(journal-id, topic, partition)**, the highest
   `journal-seq` seen, and drop whatever is not above it.
3. **重新入队**：被搁置（parked）的消息重新入队后得到**新的** `journal-seq`，`report_id` 不变；\
它可能晚于同一案件的后续消息到达。
   **Requeued**: a parked message that is requeued gets a **new** `journal-seq` and keeps its `report_id`; it may come
   after later ones of its case.
4. **日志库更换**：恢复、抢修或新建的日志库有**新的** `journal-id`，序号重新计数；\
此前已发布的，以及发送方在七天之后又重发的，以 (`ce_source`, `ce_id`) 识别。
   **A new journal**: one that was restored, salvaged or made anew has a **new** `journal-id` and counts afresh; what
   was published before then is known again by (`ce_source`, `ce_id`), as is what a sender repeats after seven days.
5. **迟到与乱序**：照样发布；何时发生，以 `occurred_at` 为准。
   **Late or out of order**: published all the same; `occurred_at` says when it happened.
6. **前向兼容**：忽略不认识的字段与消息头；`flags` 会有新词；类别代码只在 `catalogue_edition` 内有意义。
   **What may come**: ignore fields and headers you do not know; `flags` will have new words; a category means
   something only together with `catalogue_edition`.
7. **别人的记录**：没有 `journal-id`、`journal-seq`，消息头或键不是 UTF-8 文本，或值不是上报的，不是本系统写的：\
略过并计数，不算重复，也不动已记的数。
   **Records of others**: without `journal-id` and `journal-seq`, with a header or key that is no UTF-8 text, or with a
   value that is no report, it is not from here: pass and count it; it is no duplicate and moves no number.
8. **位置没有了**（保留期赶上了读者）：从最早的一条续读，并记下漏了哪一段。主题被删除重建（主题 ID 变了）：\
从头读，并忘掉该主题的数；旧回执里的位置已不在。
   **A place that is gone** (retention has overtaken the reader): go on from the earliest record, and note what was
   skipped. A topic that was deleted and made anew (its topic id is another): read it from its beginning and forget its
   numbers; the places that old receipts tell are no more.
9. **新增分区**：定期查看，新分区从头读。案件会换分区，此前此后的消息以 `journal-seq` 排序。
   **Partitions that are added**: look now and then, and read new ones from their beginning. Cases move between
   partitions; `journal-seq` orders what came before and after.

以下是内置目录的主题；各区若有自己的目录，主题见 `GET /v1/catalogue`。

These are the topics of the built-in catalogue; a district with a table of its own finds its topics in
`GET /v1/catalogue`.
"""

SHAPES: dict[str, Json] = {  # header → what JSON Schema can say of its text beside being text
    "ce_specversion": {"const": "1.0"},
    "ce_id": {"pattern": f"^(?:{IDENTIFIER})$"},
    "ce_type": {"pattern": rf"^gridgov\.(?:{'|'.join(Kind)})\.(?:{'|'.join(Stage)})$"},
    "ce_time": {"format": "date-time", "pattern": f"^{CANONICAL}$"},
    "content-type": {"const": "application/json"},
    "traceparent": {"pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"},
    event.JOURNAL_ID: {"minLength": 1},
    event.JOURNAL_SEQ: {"pattern": "^[1-9][0-9]{0,18}$"},
    event.ATTEMPT: {"pattern": "^[1-9][0-9]{0,18}$"},
}


def document(payload: Json, refused: Json, catalogue: Catalogue) -> Json:
    """The whole document; `payload` and `refused` are the published JSON Schemas of a report and of a refused one."""
    majors = sorted(catalogue.majors.values(), key=lambda major: major.topic)
    return {
        "asyncapi": "3.0.0",
        "id": "urn:gridgov:asyncapi:1",
        "info": {
            "title": "gridgov",
            "version": VERSION,
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "127.0.0.1:9092",
                "protocol": "kafka",
                "description": "KAFKA_BOOTSTRAP_SERVERS 的默认值 / the default of KAFKA_BOOTSTRAP_SERVERS",
            }
        },
        "channels": {major.topic: _channel(major) for major in majors} | {rejected.TOPIC: _rejected_channel()},
        "operations": {f"publish.{major.topic}": _publish(major) for major in majors}
        | {f"publish.{rejected.TOPIC}": _publish_rejected()},
        "components": {
            "messages": {MESSAGE: _message(), REJECTED: _rejected_message()},
            "schemas": {"headers": headers_schema(), "event": draft07(payload), "rejected": draft07(refused)},
        },
    }


def headers_schema() -> Json:
    """The record headers, their bytes read as UTF-8 text."""
    shapes = {
        name: {"type": "string", **SHAPES.get(name, {}), "description": zh if zh == en else f"{zh} / {en}"}
        for name, (zh, en) in event.HEADERS.items()
    }
    return {"type": "object", "properties": shapes, "required": [name for name in shapes if name != "traceparent"]}


def draft07(shape: Any) -> Any:
    """A 2020-12 schema of ours in draft-07, which is what AsyncAPI tools read: of the words we use one differs."""
    if isinstance(shape, list):
        return [draft07(item) for item in shape]
    if not isinstance(shape, dict):
        return shape
    renamed = {"dependentRequired": "dependencies"}
    return {renamed.get(key, key): draft07(part) for key, part in shape.items() if key not in ("$schema", "$id")}


def _channel(major: Major) -> Json:
    kind = {"repair": "部件", "incident": "事件"}[major.kind]
    return {
        "address": major.topic,
        "title": f"{kind} {major.major} {major.zh} / {major.kind} {major.major} {major.en}",
        "messages": {MESSAGE: {"$ref": f"#/components/messages/{MESSAGE}"}},
        "bindings": {"kafka": {"topic": major.topic, "bindingVersion": "0.5.0"}},
    }


def _publish(major: Major) -> Json:
    return {
        "action": "send",  # AsyncAPI tells it from the side of the program described; a consumer receives
        "channel": {"$ref": f"#/channels/{major.topic}"},
        "summary": f"发布{major.zh}的上报 / Publish reports about {major.en}",
    }


def _rejected_channel() -> Json:
    return {
        "address": rejected.TOPIC,
        "title": "被拒收的上报（已脱敏） / Refused reports, masked",
        "messages": {REJECTED: {"$ref": f"#/components/messages/{REJECTED}"}},
        "bindings": {"kafka": {"topic": rejected.TOPIC, "bindingVersion": "0.5.0"}},
    }


def _publish_rejected() -> Json:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{rejected.TOPIC}"},
        "summary": "发布已知发送方被拒收的上报，附原因 / Publish what known senders got refused, and why",
    }


def _rejected_message() -> Json:
    """Its headers are those of a report, but for `ce_type`, and `ce_id`, which stands for the content."""
    return {
        "name": REJECTED,
        "title": "一份被拒收的上报 / One refused report",
        "contentType": "application/json",
        "payload": {"$ref": "#/components/schemas/rejected"},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": "case_id；没有时为发送方 / case_id, or the sender"},
                "bindingVersion": "0.5.0",
            }
        },
    }


def _message() -> Json:
    return {
        "name": MESSAGE,
        "title": "一份上报 / One report",
        "contentType": "application/json",
        "headers": {"$ref": "#/components/schemas/headers"},
        "payload": {"$ref": "#/components/schemas/event"},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "pattern": f"^(?:{IDENTIFIER})$", "description": "case_id"},
                "bindingVersion": "0.5.0",
            }
        },
        "examples": [{"name": "planter", "summary": "花箱，紧逼督办 / flower boxes, urgently supervised", **example()}],
    }


def example() -> Json:
    """The golden event under the headers it would have."""
    payload = orjson.loads((EXAMPLES / "event.json").read_bytes())
    report = load(orjson.loads((EXAMPLES / "valid" / "full.json").read_bytes()), now_ms=2**62)
    known = {name: value.decode() for name, value in event.unpacked(event.headers(report, sender="district-platform"))}
    ours = {event.JOURNAL_ID: "6f0d1c4b7a5e4b0f9c3d2e1f0a9b8c7d", event.JOURNAL_SEQ: "1042", event.ATTEMPT: "1"}
    return {"headers": known | ours, "payload": payload}
