import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;

/** Sends one report until it is answered for good. Needs Java 17 and nothing else. */
public class Send {
    static final URI WHERE = URI.create("http://127.0.0.1:8080/v1/reports");
    static final String KEY = ""; // gg_…; none is needed on this machine as long as there are no keys
    static final HttpClient CLIENT = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(5)).build();

    /** The receipt, or the problem that must be mended first. */
    static String send(String report) throws InterruptedException {
        HttpRequest.Builder request = HttpRequest.newBuilder(WHERE).timeout(Duration.ofSeconds(30))
                .header("Content-Type", "application/json").POST(BodyPublishers.ofString(report));
        if (!KEY.isEmpty()) {
            request.header("Authorization", "Bearer " + KEY);
        }
        for (long wait = 500;; wait = Math.min(wait * 2, 30_000)) {
            long asked = 0;
            try {
                HttpResponse<String> answer = CLIENT.send(request.build(), BodyHandlers.ofString());
                boolean again = answer.statusCode() >= 500 || answer.statusCode() == 429
                        || answer.body().contains("\"retryable\":true");
                if (!again) {
                    return answer.body();
                }
                asked = answer.headers().firstValueAsLong("Retry-After").orElse(0) * 1000;
            } catch (IOException noAnswer) {
                // promises nothing, and sending again is always safe
            }
            Thread.sleep(Math.max(wait, asked));
        }
    }

    public static void main(String[] arguments) throws Exception {
        System.out.println(send(new String(System.in.readAllBytes(), "UTF-8")));
    }
}
