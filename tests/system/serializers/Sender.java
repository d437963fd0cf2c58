import com.fasterxml.jackson.databind.ObjectMapper;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.sql.Timestamp;
import java.text.SimpleDateFormat;
import java.time.OffsetDateTime;
import java.time.ZoneId;
import java.time.format.DateTimeFormatter;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TimeZone;

/** One report as Java platforms write it: Jackson and Gson, all the ways of a time, announced and streamed. */
class Sender {
    record Location(
            String address, String street_code, String grid_code, String component_id, Double x, Double y, String crs) {}

    record Campaign(String name, String phase, String level) {}

    record Attachment(String url, String usage, String media) {}

    record Handler(String unit_code, String unit_name) {}

    record Reporter(String name, String phone) {}

    record Report(
            String report_id, String case_id, String kind, String category, String stage, Object occurred_at,
            Location location, String source, String source_name, String supervision, Campaign campaign,
            String description, List<Attachment> attachments, Handler handler, Reporter reporter,
            Map<String, Object> extra) {}

    static final ObjectMapper JACKSON = new ObjectMapper();
    static final Gson GSON = new GsonBuilder().serializeNulls().create();
    static final HttpClient CLIENT = HttpClient.newHttpClient();
    static String url;

    static Report report(Object occurredAt, String none, boolean parts) {
        return new Report(
                "r-serialized", "c-serialized", "repair", "0211", "reported", occurredAt,
                new Location("杨树浦路 × 秦皇岛路", none, none, none, null, null, none),
                none, null, none, parts ? new Campaign(none, none, none) : null, "两根立柱\r\n已更换",
                List.of(new Attachment("https://img.example.cn/1.jpg", none, none)),
                parts ? new Handler(none, none) : null, parts ? new Reporter(none, none) : null, null);
    }

    static Map<String, Object> times() {
        OffsetDateTime moment = OffsetDateTime.parse("2020-11-04T08:00:00+08:00");
        Date date = Date.from(moment.toInstant());
        SimpleDateFormat classic = new SimpleDateFormat("yyyy-MM-dd'T'HH:mm:ss.SSSZ");
        classic.setTimeZone(TimeZone.getTimeZone("Asia/Shanghai"));
        TimeZone.setDefault(TimeZone.getTimeZone("Asia/Shanghai"));
        Map<String, Object> times = new LinkedHashMap<>();
        times.put("Date", date.getTime());
        times.put("SimpleDateFormat", classic.format(date));
        times.put("offset of hours", DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ssX").format(moment));
        times.put("OffsetDateTime", DateTimeFormatter.ISO_OFFSET_DATE_TIME.format(moment));
        times.put("LocalDateTime", DateTimeFormatter.ISO_LOCAL_DATE_TIME.format(moment.toLocalDateTime()));
        times.put("local with nanoseconds",
                DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss.SSSSSSSSS").format(moment.toLocalDateTime()));
        times.put("Instant", DateTimeFormatter.ISO_INSTANT.format(moment.toInstant()));
        times.put("Timestamp", Timestamp.from(moment.atZoneSameInstant(ZoneId.of("Asia/Shanghai")).toInstant()).toString());
        return times;
    }

    static void told(String how, int status, String answer) {
        System.out.println(GSON.toJson(Map.of("how", how, "status", status, "answer", answer)));
    }

    static void announced(String how, byte[] body) throws Exception {
        client(how + ", announced", BodyPublishers.ofByteArray(body));
    }

    static void streamed(String how, byte[] body) throws Exception {
        client(how + ", streamed", BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body)));
    }

    static void client(String how, HttpRequest.BodyPublisher body) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(url + "/v1/reports"))
                .header("Content-Type", "application/json").POST(body).build();
        var answer = CLIENT.send(request, BodyHandlers.ofString());
        told(how, answer.statusCode(), answer.body());
    }

    /** An array written item by item into a connection whose length nobody knows beforehand. */
    static void batch(String how, Report report) throws Exception {
        var connection = (HttpURLConnection) URI.create(url + "/v1/reports/batch").toURL().openConnection();
        connection.setDoOutput(true);
        connection.setChunkedStreamingMode(0);
        connection.setRequestProperty("Content-Type", "application/json");
        try (OutputStream out = connection.getOutputStream(); var writer = JACKSON.writer().writeValuesAsArray(out)) {
            writer.write(report);
            writer.write(report);
        }
        int status = connection.getResponseCode();
        InputStream body = status < 400 ? connection.getInputStream() : connection.getErrorStream();
        told(how, status, new String(body.readAllBytes(), StandardCharsets.UTF_8));
    }

    public static void main(String[] arguments) throws Exception {
        url = arguments[0];
        for (var time : times().entrySet()) {
            announced("Jackson, " + time.getKey(), JACKSON.writeValueAsBytes(report(time.getValue(), null, false)));
        }
        String time = "2020-11-04T08:00:00.000+0800";
        for (String none : new String[] {null, ""}) {
            for (boolean parts : new boolean[] {true, false}) {
                Report report = report(time, none, parts);
                String how = (none == null ? "null" : "empty") + (parts ? " inside" : "");
                announced("Jackson, " + how, JACKSON.writeValueAsBytes(report));
                streamed("Jackson, " + how, JACKSON.writeValueAsBytes(report));
                announced("Gson, " + how, GSON.toJson(report).getBytes(StandardCharsets.UTF_8));
                streamed("Gson, " + how, GSON.toJson(report).getBytes(StandardCharsets.UTF_8));
                batch("Jackson, " + how + ", array", report);
            }
        }
        announced("Jackson, Date itself", JACKSON.writeValueAsBytes(
                report(Date.from(OffsetDateTime.parse("2020-11-04T00:00:00Z").toInstant()), null, true)));
    }
}
