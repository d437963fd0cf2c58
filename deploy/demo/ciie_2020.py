"""The 3rd CIIE operation in the North Bund, October-November 2020, told as the reports a platform would send.

    python deploy/demo/ciie_2020.py > deploy/demo/ciie-2020.ndjson

Prints one report per line in the order of `occurred_at`. Everything is in the tables below, so each run prints
the same bytes. What of it is history and what is made up: `ciie-2020.md`.
"""

import json
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

# case_id      reported category source | seconds to dispatched arrived finished approved | where | what
CASES = {
    ("trial", "incident"): """
202010140021 09:12:30 0506 inspector |  55  320   840  1310 | 东大名路公平路口 | 共享单车占用盲道
202010150034 07:48:05 0104 campaign  |  40  280   760  1180 | 杨树浦路近大连路 | 路面散落树叶泥水
202010160017 10:05:50 0501 video     |  35  410   960  1500 | 公平路轮渡站出口 | 流动摊贩占道设摊
202010180042 18:22:15 0504 citizen   |  70  505  1120  1640 | 霍山路近临潼路 | 店外摆放桌椅经营
202010200028 14:31:40 0203 inspector |  50  390   690  1020 | 唐山路近公平路 | 广告灯箱占道摆放
202010220013 08:55:20 0302 video     |  45  600  1380  1900 | 东长治路近高阳路 | 工地出土未喷淋，扬尘
202010240039 16:10:10 0406 hotline   |  60  540  1440  2100 | 大连路唐山路口 | 雨后路口积水
""",
    ("trial", "repair"): """
202010140052 13:20:00 0103 inspector |  60  480  9900 11400 | 东大名路高阳路口 | 雨水井盖松动异响
202010150061 19:05:30 0118 campaign  |  50  620  7500  8700 | 公平路近东长治路 | 两盏路灯不亮
202010170015 09:40:45 0213 inspector |  65  555 14400 16200 | 霍山路舟山路口 | 路名牌倾斜
202010190026 11:15:10 0305 citizen   |  80  430  5400  6300 | 舟山路近唐山路 | 废物箱箱门脱落
202010200044 15:50:25 0402 inspector |  55  700 12600 15300 | 东余杭路近公平路 | 行道树枝条下垂，遮挡信号灯
202010210031 10:25:35 0501 inspector |  70  660 10800 12300 | 唐山路近高阳路 | 宣传栏玻璃开裂
202010220047 14:02:20 0209 video     |  45  510 18000 20400 | 大连路霍山路口 | 交通标志牌歪斜
202010230018 08:36:00 0107 hotline   |  75  590  8100  9600 | 东长治路近公平路 | 通讯井盖破损
202010250022 09:18:40 0604 inspector |  60  820 30600 34200 | 东大名路近公平路（滨江步道） | 临水护栏连接件缺失
""",
    ("formal", "incident"): """
202010260016 07:35:20 0104 campaign  |  30  215   650   930 | 杨树浦路秦皇岛路口 | 路口散落纸屑
202010260033 11:48:55 0506 inspector |  45  350   905  1270 | 大连路霍山路口 | 共享单车堆放过密，占人行道
202010270024 09:05:10 0505 video     |  35  480  1260  1710 | 东大名路近高阳路 | 货车占用非机动车道停放
202010270058 17:40:30 0501 inspector |  50  365   870  1220 | 公平路近唐山路 | 流动摊贩占道设摊
202010280019 08:12:45 0102 citizen   |  65  440  1015  1490 | 唐山路近舟山路 | 垃圾袋堆放在人行道
202010290027 10:33:00 0304 video     |  40  570  1350  1880 | 东长治路近公平路 | 施工围挡外堆料占道
202010290045 15:20:15 0201 inspector |  55  300   720  1050 | 霍山路近大连路 | 公交站旁墙面张贴小广告
202010300012 07:58:40 0112 video     |  30  260   990  1430 | 杨树浦路近大连路 | 渣土车遗撒
202010300036 13:07:25 0504 inspector |  50  420   880  1240 | 舟山路近霍山路 | 店外堆放货物经营
202010310029 16:45:50 0204 campaign  |  35  245   540   800 | 大连路地铁站出口 | 街头散发广告单
202011010018 09:25:05 0106 inspector |  60  510  1180  1600 | 东大名路近公平路 | 绿地内有白色垃圾
202011020022 08:40:35 0506 video     |  40  330   790  1130 | 公平路东长治路口 | 电动自行车停在盲道上
202011020051 19:15:10 0508 hotline   |  70  615  1290  1750 | 霍山路近临潼路 | 商铺外放音响扰民
202011030014 10:02:20 0511 inspector |  55  400   830  1190 | 东余杭路近高阳路 | 沿街晾晒衣被
202011040011 06:50:15 0104 campaign  |  25  190   620   900 | 东大名路近高阳路 | 保障路线路面有油污
202011040038 12:28:30 0205 inspector |  45  460  1320  1840 | 唐山路近公平路 | 店招面板松动，已拉警戒线
202011050020 09:10:00 0505 video     |  30  275   700  1010 | 杨树浦路秦皇岛路口 | 车辆违停占用公交站
202011050043 18:05:45 0501 citizen   |  60  385   915  1330 | 公平路轮渡站出口 | 流动摊贩聚集
202011060025 14:55:20 0404 hotline   |  65  580  1410  2050 | 舟山路近唐山路 | 下水道堵塞，污水外溢
202011070017 10:40:10 0507 inspector |  50  370   860  1210 | 东余杭路近公平路 | 人行道堆放装修材料
202011080031 15:35:55 0103 video     |  40  545  1465  1970 | 东长治路近高阳路 | 零星渣土积存
202011100013 08:20:30 0506 campaign  |  30  240   680   960 | 东大名路公平路口 | 共享单车倒伏占道
""",
    ("formal", "repair"): """
202010260047 14:12:00 0104 inspector |  55  540  7200  8700 | 霍山路近公平路 | 雨水箅子缺失一块
202010270039 13:30:20 0203 campaign  |  45  450 16200 18600 | 杨树浦路近大连路 | 公交站亭顶灯箱面板破损
202010280031 09:20:00 0211 campaign  |  20   70 36000 38700 | 杨树浦路秦皇岛路口 | 中央隔离栏受损
202010280032 09:20:45 0404 campaign  |  25   85 36000 38760 | 杨树浦路秦皇岛路口 | 花箱受损
202010300055 17:25:10 0210 video     |  30  380  5400  6600 | 大连路唐山路口 | 人行信号灯一面不亮
202010310041 20:10:35 0307 inspector |  60  690 50400 54000 | 东大名路近公平路 | 广告牌匾一角翘起
202011010033 14:48:25 0408 inspector |  65  610 12600 14700 | 东大名路近高阳路 | 绿地护栏脱焊
202011030046 16:30:50 0407 citizen   |  75  730 64800 68400 | 公平路近东长治路 | 街头坐椅木条断裂
202011050032 11:05:15 0102 hotline   |  50  495  6300  7800 | 唐山路近舟山路 | 污水井盖下沉
202011060048 19:42:40 0602 video     |  40  660 43200 46800 | 东长治路近高阳路 | 工地围挡倾斜
202011090015 08:15:30 0116 inspector |  55  570 21600 24300 | 东余杭路近公平路 | 配电箱箱门锁具损坏
""",
}

# What else was reported of a case: seconds after its first report, stage, in words.
ASIDES = {
    "202010160017": [(700, "pressed", "临近客流高峰，请加快处置")],
    "202010200044": [(900, "note", "已设警示锥，安排专人引导车辆")],
    "202010250022": [
        (1500, "note", "已用警戒带围护缺口"),
        (3600, "suspended", "等待定制连接件"),
        (23400, "resumed", "连接件已到现场"),
    ],
    "202010270024": [(600, "pressed", "驾驶员不在车内，请联系移车")],
    "202010280031": [
        (600, "note", "已清理碎件、摆放锥桶警示，现场安全"),
        (27000, "note", "隔离栏配件到场，开始安装"),
        (35100, "note", "夜间试灯，亮灯正常"),
    ],
    "202010280032": [
        (640, "note", "已移走破损花箱、清扫路面，现场安全"),
        (27600, "note", "花箱配件到场，开始安装"),
        (35160, "note", "夜间试灯，亮灯正常"),
    ],
    "202010290027": [(900, "supervised", "街道城运中心督办")],
    "202010310041": [
        (1200, "note", "已临时加固，下方设警戒区"),
        (9000, "finished", "牌匾已重新固定"),
        (12600, "returned", "复核发现右侧锚栓仍松动，退回返工"),
    ],
    "202011030046": [
        (2400, "suspended", "等待木条到货"),
        (54000, "pressed", "请确认到货时间"),
        (57600, "resumed", "木条已到，恢复施工"),
    ],
    "202011060025": [(700, "note", "疏通车已到场")],
    "202011060048": [(1800, "note", "已加斜撑，安排人员看守")],
}

# Nobody: a platform may send such a person, and gridgov must drop them. No telephone number begins with 000.
REPORTERS = {
    "202010190026": {"name": "虚构市民甲", "phone": "00000000001"},
    "202010280019": {"name": "虚构市民乙", "phone": "00000000002"},
    "202011050043": {"name": "虚构市民丙", "phone": "00000000003"},
}

# 6 digits of the district, 4 of the category, 6 of the component.
COMPONENTS = {
    "202010140052": "3101090103000418",
    "202010150061": "3101090118000226",
    "202010280031": "3101090211000137",
    "202010280032": "3101090404000052",
    "202011050032": "3101090102000305",
}
# Longitude and latitude, roughly: three decimals are about 100 m.
CROSSING = {"杨树浦路秦皇岛路口": (121.513, 31.254)}
# By the road an address begins with: 12 digits of a neighbourhood, 2 of a grid in it.
GRIDS = {
    "东大名路": "31010901800102",
    "杨树浦路": "31010901800203",
    "公平路": "31010901800301",
    "霍山路": "31010901800404",
    "唐山路": "31010901800502",
    "大连路": "31010901800601",
    "东长治路": "31010901800703",
}
SOURCES = {
    "inspector": "网格监督员",
    "campaign": "进博保障巡查",
    "video": "视频巡屏",
    "citizen": "随手拍",
    "hotline": "12345热线",
}
HANDLERS = {
    ("repair", "01"): ("BWT-01", "市政设施养护队"),
    ("repair", "02"): ("BWT-02", "道路设施养护队"),
    ("repair", "04"): ("BWT-03", "绿化养护队"),
    ("incident", "01"): ("BWT-04", "环卫作业队"),
    ("incident", "05"): ("BWT-05", "市容管理队"),
}
STREET = "310109018000"
MEDIA = "https://media.gridgov.example/ciie-2020"


class Case(NamedTuple):
    """One line of CASES; `events` are (seconds after the report, stage, words) in the order they happened."""

    phase: str
    kind: str
    case_id: str
    reported: datetime
    category: str
    source: str
    address: str
    events: list[tuple[int, str, str]]


def cases() -> Iterator[Case]:
    for (phase, kind), table in CASES.items():
        for line in table.strip().splitlines():
            head, seconds, address, what = (part.strip() for part in line.split("|"))
            case_id, clock, category, source = head.split()
            reported = datetime.fromisoformat(f"{case_id[:4]}-{case_id[4:6]}-{case_id[6:8]}T{clock}+08:00")
            milestones = zip(map(int, seconds.split()), ("dispatched", "arrived", "finished", "approved"), strict=True)
            events = [(0, "reported", what), *((after, stage, "") for after, stage in milestones)]
            events += ASIDES.get(case_id, [])
            yield Case(phase, kind, case_id, reported, category, source, address, sorted(events))


def reports(case: Case) -> Iterator[dict[str, Any]]:
    for number, (after, stage, words) in enumerate(case.events, start=1):
        report = {
            "report_id": f"ciie2020-{case.case_id}-{number:02d}",
            "case_id": case.case_id,
            "kind": case.kind,
            "category": case.category,
            "stage": stage,
            "occurred_at": (case.reported + timedelta(seconds=after)).isoformat(),
            "supervision": "urgent",
            "campaign": {"name": "第三届进博会", "phase": case.phase, "level": "一级"},
        }
        yield report | ({"description": words} if words else {}) | said_at(case, stage, number)


def said_at(case: Case, stage: str, number: int) -> dict[str, Any]:
    """What a platform adds at some stages only: the place, the crew, the pictures."""
    if stage == "reported":
        media = "video" if case.source == "video" else "image"
        return beginning(case) | pictures(case, "report", media, number)
    if stage == "dispatched":
        code, name = HANDLERS.get((case.kind, case.category[:2]), ("BWT-00", "综合保障队"))
        return {"handler": {"unit_code": code, "unit_name": name}}
    if stage == "finished":
        return pictures(case, "dispose", "image", number)
    if stage == "approved" and case.kind == "repair":
        return pictures(case, "check", "image", number)
    return {}


def beginning(case: Case) -> dict[str, Any]:
    location: dict[str, Any] = {"address": case.address, "street_code": STREET}
    if grid := next((grid for road, grid in GRIDS.items() if case.address.startswith(road)), None):
        location["grid_code"] = grid
    if case.case_id in COMPONENTS:
        location["component_id"] = COMPONENTS[case.case_id]
    if case.address in CROSSING:
        x, y = CROSSING[case.address]
        location |= {"x": x, "y": y, "crs": "WGS84"}
    told = {"location": location, "source": case.source, "source_name": SOURCES[case.source]}
    return told | ({"reporter": REPORTERS[case.case_id]} if case.case_id in REPORTERS else {})


def pictures(case: Case, usage: str, media: str, number: int) -> dict[str, Any]:
    suffix = "mp4" if media == "video" else "jpg"
    url = f"{MEDIA}/{case.case_id}/{number:02d}-{usage}.{suffix}"
    return {"attachments": [{"url": url, "usage": usage, "media": media}]}


def main() -> None:
    told = [report for case in cases() for report in reports(case)]
    told.sort(key=lambda report: str(report["occurred_at"]))  # one offset throughout, so text sorts as time
    for report in told:
        line = json.dumps(report, ensure_ascii=False, separators=(",", ":"))
        sys.stdout.buffer.write(line.encode() + b"\n")  # bytes: the terminal's encoding has no say


if __name__ == "__main__":
    main()
