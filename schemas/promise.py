"""What a `202 Accepted` is worth: one wording for README, OpenAPI and tests. Markdown, one paragraph each."""

PROMISE = (
    "`202 Accepted` means: the report is in the journal on this machine's disk, flushed, and will be published to "
    "Kafka at least once under this `report_id`. It survives process kills, an operating-system crash, power loss (if "
    "the disk honours flush) and a Kafka outage as long as the journal has room. It does not survive the loss of that "
    "disk before the relay has published it (normally well under a second; see the age of the oldest pending message). "
    "Any other answer, or none, means: not promised, send it again under the same `report_id`; that is always safe."
)

PROMISE_ZH = (
    "`202 Accepted` 表示：该上报已写入本机磁盘上的日志库并已刷盘，将以此 `report_id` 至少发布到 Kafka 一次。"
    "进程被杀、操作系统崩溃、断电（只要磁盘如实刷盘），以及日志库尚有空间时的 Kafka 中断，都不会使它丢失。"
    "若该磁盘在中继发布之前损毁，则会丢失（正常情况下远不到一秒；见最早一条待发布消息的时长）。"
    "其他任何应答，或没有应答，都表示：未作承诺，请以同一 `report_id` 重发；这样做总是安全的。"
)
