"""Kafka 与事件日志 / Kafka and journal: does what was accepted reach Kafka and tables, how soon, how much room is left.

How full the journal is, every web process on it tells alike: `max`.
"""

from deploy.grafana.model import MINUTES, NEUTRAL, Json, Look, Panel, Query, Step, Text, alarming, dashboard
from deploy.grafana.panels import hourly, lines, row, stat
from deploy.grafana.queries import per_hour, quantile
from schemas.catalogue import Catalogue

OLDEST = "gridgov_journal_oldest_pending_timestamp_seconds"
AGE = f"max((time() - {OLDEST}) * ({OLDEST} > bool 0))"  # 0 = nothing is pending
LEADING = "and on (job, instance) (gridgov_relay_leader == 1)"  # a standby is connected to nothing, and that is right
ROOM = "min(1 - gridgov_journal_size_bytes / gridgov_journal_limit_bytes)"
PAGE_AGE = 300  # seconds: JournalBacklogAge


def kafka_journal(_: Catalogue) -> Json:
    """The dashboard."""
    return dashboard(
        "gridgov-kafka",
        Text("Kafka 与事件日志", "Kafka and journal"),
        Text(
            "已受理的上报是否到达 Kafka、多久到达、日志库还有多少空间。",
            "Whether what was accepted reaches Kafka, how soon, and how much room the journal has left.",
        ),
        [*_now(), *_backlog(), *_topics(), *_speed(), *_sub_centre()],
    )


def _now() -> list[Panel]:
    return [
        stat(
            Text("Kafka 连接", "Kafka"),
            Text(
                "主转发进程能否联系到集群；断开期间仍照常受理",
                "Whether the leading relay reaches the cluster; intake goes on without",
            ),
            f"min(gridgov_kafka_connected {LEADING})",
            Look(
                "none",
                (Step(None, "red"), Step(1, "green")),
                names={"0": Text("断开", "disconnected"), "1": Text("已连接", "connected")},
                nothing=Text("没有主转发", "no leader"),
            ),
        ),
        stat(
            Text("待发布", "Pending"),
            Text("已受理、Kafka 尚未确认的上报", "Accepted and not yet acknowledged by Kafka"),
            "max(gridgov_journal_pending_messages)",
            Look("none", alarming(orange=100, red=1000), 0),
        ),
        stat(
            Text("最早待发布", "Oldest pending"),
            Text(
                "最早一条待发布上报已等待的时间；超过 5 分钟告警",
                "How long the oldest pending report has waited; pages above 5 minutes",
            ),
            AGE,
            Look("dthms", alarming(orange=60, red=PAGE_AGE), 0),
        ),
        stat(
            Text("剩余空间", "Room left"),
            Text(
                "日志库上限中未用的部分；低于 10% 即拒收",
                "The part of the journal's limit not in use; below 10 % it refuses",
            ),
            ROOM,
            Look("percentunit", (Step(None, "red"), Step(0.2, "orange"), Step(0.5, "green")), 1, 0, 1),
        ),
        stat(
            Text("已搁置", "Parked"),
            Text(
                "Kafka 永远不会接受的上报，等待人工处理",
                "Reports that Kafka will never take as they are; somebody must look",
            ),
            "max(gridgov_journal_parked_messages)",
            Look("none", alarming(red=1), 0),
        ),
        stat(
            Text("账目差", "Ledger mismatch"),
            Text(
                "受理 − 已发布 − 待发布 − 搁置；不为 0 说明有行丢失",
                "accepted - settled - pending - parked; not 0: rows have vanished",
            ),
            "max(abs(gridgov_journal_ledger_mismatch))",
            Look("none", alarming(red=1), 0),
        ),
        stat(
            Text("转发心跳", "Relay heartbeat"),
            Text("主转发进程上次循环至今", "Since the leading relay's loop last turned"),
            f"time() - max(gridgov_relay_heartbeat_timestamp_seconds {LEADING})",
            Look("dthms", alarming(orange=60, red=120), 0, nothing=Text("没有主转发", "no leader")),
        ),
        stat(
            Text("暂停的主题", "Paused topics"),
            Text(
                "暂时收不下消息的主题数：缺失、无权限、副本不足",
                "Topics that take nothing: missing, not authorised, too few replicas",
            ),
            f"sum(gridgov_kafka_topic_paused {LEADING})",
            Look("none", alarming(orange=1), 0),
        ),
    ]


def _backlog() -> list[Panel]:
    return [
        row(Text("积压", "Backlog")),
        lines(
            Text("待发布条数", "Pending messages"),
            Text(
                "平时接近 0；Kafka 断开时增长，恢复后应很快回落",
                "Near 0; grows while Kafka is away and falls soon after",
            ),
            [Query("max(gridgov_journal_pending_messages)", Text("待发布", "pending"))],
            Look("none", alarming(orange=100, red=1000), 0, 0),
            width=8,
        ),
        lines(
            Text("最早待发布的等待时间", "Age of the oldest pending"),
            Text("虚线为告警线，5 分钟", "The dashed line pages: 5 minutes"),
            [Query(f"{AGE} / 60", Text("等待", "waiting"))],
            Look(MINUTES, alarming(red=PAGE_AGE / 60), 0, 0),
            width=8,
            marks=True,
        ),
        lines(
            Text("日志库大小", "Journal size"),
            Text("用 90% 起拒收，回到 80% 恢复", "Refuses from 90 % of the limit, accepts again from 80 %"),
            [
                Query("max(gridgov_journal_size_bytes)", Text("已用", "used")),
                Query("max(gridgov_journal_limit_bytes)", Text("上限", "limit")),
            ],
            Look("bytes", least=0),
            width=8,
            limit=Text("上限", "limit"),
        ),
        lines(
            Text("连接与主转发", "Connection and leader"),
            Text("1 = 已连接；主转发应恰好有一个", "1: connected; there should be exactly one leader"),
            [
                Query(f"min(gridgov_kafka_connected {LEADING})", Text("已连接", "connected")),
                Query("sum(gridgov_relay_leader)", Text("主转发数", "leaders")),
            ],
            Look("none", alarming(red=2), 0, 0, 2),
        ),
        lines(
            Text("在途消息", "In flight"),
            Text("已交给客户端、尚未确认的消息", "Handed to the client and not yet acknowledged"),
            [Query("sum(gridgov_kafka_in_flight_messages)", Text("在途", "in flight"))],
            Look("none", alarming(orange=1000), 0, 0),
        ),
    ]


def _topics() -> list[Panel]:
    return [
        row(Text("主题", "Topics")),
        hourly(
            Text("每小时发布（按主题）", "Published per hour by topic"),
            Text("Kafka 已确认的消息", "Acknowledged by Kafka"),
            Query(per_hour("gridgov_kafka_publishes_total", "topic", outcome="delivered") + " > 0", "{{topic}}"),
            Look("none", NEUTRAL, 0),
            height=10,
        ),
        hourly(
            Text("每小时发布出错（按主题）", "Publish errors per hour by topic"),
            Text(
                "record 该条消息的问题，topic 该主题的，producer 连接或客户端的",
                "record: that message's fault; topic: the topic's; producer: the connection's or the client's",
            ),
            Query(per_hour("gridgov_kafka_publish_errors_total", "topic, error") + " > 0", "{{topic}} {{error}}"),
            Look("none", NEUTRAL, 0, nothing=Text("没有出错", "no errors")),
            height=10,
        ),
        hourly(
            Text("每小时搁置（按主题）", "Parked per hour by topic"),
            Text("新搁置的消息", "Newly parked messages"),
            Query(per_hour("gridgov_kafka_publishes_total", "topic", outcome="parked") + " > 0", "{{topic}}"),
            Look("none", NEUTRAL, 0, nothing=Text("没有搁置", "nothing was parked")),
            width=24,
            height=6,
        ),
    ]


def _speed() -> list[Panel]:
    publish, lag, append = (
        "gridgov_kafka_publish_duration_seconds",
        "gridgov_ingest_lag_seconds",
        "gridgov_journal_append_duration_seconds",
    )
    return [
        row(Text("用时", "How long it takes")),
        lines(
            Text("Kafka 确认用时", "Publish duration"),
            Text("交给客户端到确认，15 分钟窗口", "From handing over to acknowledgement, over 15 minutes"),
            _quantiles(publish),
            Look("clocks", alarming(red=30), least=0),
            width=8,
        ),
        lines(
            Text("受理到确认", "Ingest lag"),
            Text(
                "从 202 到 Kafka 确认，15 分钟窗口；目标：99.9% 在 60 秒内",
                "From the 202 to Kafka's acknowledgement, over 15 minutes; 99.9 % are to take at most 60 s",
            ),
            _quantiles(lag),
            Look("clocks", alarming(red=60), least=0),
            width=8,
            marks=True,
        ),
        lines(
            Text("落盘用时", "Journal append"),
            Text("一次成组提交，含刷盘，15 分钟窗口", "One group commit, flush included, over 15 minutes"),
            _quantiles(append),
            Look("s", alarming(red=0.25), least=0),
            width=8,
        ),
    ]


def _sub_centre() -> list[Panel]:
    none_here = Text("此处没有分中心", "no sub-centre here")
    return [
        row(Text("分中心的表", "The sub-centre's tables")),
        stat(
            Text("表的更新", "Tables kept up"),
            Text(
                "Kafka 与数据库上次都可用至今；超过 2 分钟报警",
                "Since Kafka and the database were both last at hand; alarms above 2 minutes",
            ),
            "time() - max(gridgov_sink_turned_timestamp_seconds)",
            Look("dthms", alarming(orange=30, red=120), 0, nothing=none_here),
            width=4,
            height=8,
        ),
        lines(
            Text("尚未入表", "Not in the tables yet"),
            Text("已在 Kafka、尚未写入表中的消息", "Records in Kafka that are not worked into the tables"),
            [Query("sum(gridgov_sink_lag_records)", Text("落后", "behind"))],
            Look("none", alarming(orange=100, red=1000), 0, 0, nothing=none_here),
            width=10,
        ),
        hourly(
            Text("每小时入表", "Worked in per hour"),
            Text(
                "reports 已入表，duplicates 重复，unselected 未选，foreign 与 failed 已放在一旁",
                "reports: in the tables; duplicates and unselected: dropped; foreign and failed: set aside",
            ),
            Query(per_hour("gridgov_sink_records_total", "result") + " > 0", "{{result}}"),
            Look("none", NEUTRAL, 0, nothing=none_here),
            width=10,
        ),
    ]


def _quantiles(histogram: str) -> list[Query]:
    return [Query(quantile(q, histogram), f"p{q * 100:.0f}") for q in (0.5, 0.99)]
