"""What the dashboards call the values of labels."""

from deploy.grafana.model import Text
from schemas.catalogue import Catalogue

KINDS = {"repair": Text("部件", "Repair"), "incident": Text("事件", "Incident")}
PHASES = {
    "awaiting_arrival": Text("待到场", "awaiting arrival"),
    "in_progress": Text("处置中", "in progress"),
    "awaiting_approval": Text("待核实", "awaiting approval"),
}
PROCESSES = {"web": Text("受理进程", "web"), "relay": Text("转发进程", "relay"), "sink": Text("分中心进程", "sink")}
SEVERITIES = {
    "page": Text("立即处置", "page"),
    "wall": Text("值班关注", "duty wall"),
    "desk": Text("调度催办", "dispatch desk"),
}
ALERTS = {
    "TargetDown": Text("监控目标失联", "Target down"),
    "KafkaDisconnected": Text("Kafka 断开", "Kafka disconnected"),
    "JournalBacklogAge": Text("待发布积压过久", "Journal backlog too old"),
    "LedgerMismatch": Text("日志库账目不符", "Ledger mismatch"),
    "JournalDiskFull": Text("日志库将满", "Journal will be full"),
    "MessagesParked": Text("有消息被搁置", "Messages parked"),
    "JournalSetAside": Text("日志库损坏待抢救", "Journal set aside"),
    "ErrorBudgetBurn": Text("误差预算消耗过快", "Error budget burns fast"),
    "JournalGrowing": Text("日志库持续增长", "Journal keeps growing"),
    "KafkaPublishFailing": Text("发布 Kafka 出错", "Publishing fails"),
    "TopicUnsafe": Text("主题设置会丢消息", "Topic settings lose messages"),
    "KeysStale": Text("密钥文件无法读取", "Key file unreadable"),
    "SinkBehind": Text("分中心的表没有跟上", "Sub-centre falls behind"),
    "AuditUnwritten": Text("审计日志写不下去", "Audit log not written"),
    "RejectSpike": Text("拒收激增", "Spike of refusals"),
    "CaseTrackerStale": Text("案件跟踪停滞", "Case tracker stale"),
    "CasesIncomplete": Text("有上报未计入案件", "Reports not in any case"),
    "RelayHeartbeatStale": Text("转发进程停滞", "Relay stale"),
    "ReportsSilent": Text("上报中断", "Reports fell silent"),
    "IncidentOverdue": Text("事件超时", "Incident overdue"),
    "RepairArrivalOverdue": Text("维修未按时到场", "Repair: nobody on site"),
    "RepairOverdue": Text("维修超时", "Repair overdue"),
    "CasesDueSoon": Text("案件即将超时", "Cases due soon"),
}


def places(catalogue: Catalogue) -> dict[str, Text]:
    """ "kind major" → what the major class is called."""
    return {
        f"{major.kind} {major.major}": Text(f"{KINDS[major.kind].zh}·{major.zh}", f"{KINDS[major.kind].en}: {major.en}")
        for major in catalogue.majors.values()
    }


def limit(catalogue: Catalogue, kind: str, standard: str) -> Text:
    """A promised time in minutes, or in hours from two hours up: "25 分", "25 min"."""
    [seconds] = [
        one.limit_seconds
        for one in catalogue.standards
        if (one.kind, one.standard, one.category) == (kind, standard, None)
    ]
    hours, minutes = divmod(seconds // 60, 60)
    if hours >= 2 and not minutes:
        return Text(f"{hours} 小时", f"{hours} h")
    return Text(f"{seconds // 60} 分钟", f"{seconds // 60} min")
