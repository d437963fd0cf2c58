// Post a signed report: GRIDGOV_KEY=gg_<id>_<secret> java Client.java http://127.0.0.1:8080/v1/reports report.json
import java.net.*; import java.net.http.*; import java.nio.file.*; import java.security.*; import java.util.*;
import javax.crypto.Mac; import javax.crypto.spec.SecretKeySpec;

class Client { // for SM3: Security.addProvider(new BouncyCastleProvider()), then "SM3" and "HmacSM3"
    public static void main(String[] args) throws Exception {
        var url = URI.create(args[0]); var body = Files.readAllBytes(Path.of(args[1])); var hex = HexFormat.of();
        var key = System.getenv("GRIDGOV_KEY"); var stamp = "" + System.currentTimeMillis();
        var digest = hex.formatHex(MessageDigest.getInstance("SHA-256").digest(body));
        var pairs = url.getRawQuery() == null ? new String[0] : url.getRawQuery().split("&");
        Arrays.sort(pairs);
        var text = String.join("\n", "POST", url.getPath(), String.join("&", pairs), digest, stamp);
        var mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key.substring(12).getBytes(), "HmacSHA256"));
        var request = HttpRequest.newBuilder(url).POST(HttpRequest.BodyPublishers.ofByteArray(body))
            .headers("Content-Type", "application/json", "X-App-Key", key.substring(0, 11), "X-Timestamp", stamp)
            .headers("X-Content-Digest", digest, "X-Signature", hex.formatHex(mac.doFinal(text.getBytes()))).build();
        var answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        System.out.println(answer.statusCode() + " " + answer.body());
    }
}
