// One report as a Go platform writes it: pointers that are nil, strings that are empty, announced and streamed.
package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"time"
)

type location struct {
	Address     string   `json:"address"`
	StreetCode  string   `json:"street_code"`
	GridCode    string   `json:"grid_code"`
	ComponentID *string  `json:"component_id"`
	X           *float64 `json:"x"`
	Y           *float64 `json:"y"`
	Crs         string   `json:"crs"`
}

type campaign struct {
	Name  string `json:"name"`
	Phase string `json:"phase"`
	Level string `json:"level"`
}

type attachment struct {
	URL   string  `json:"url"`
	Usage string  `json:"usage"`
	Media *string `json:"media"`
}

type unit struct {
	UnitCode string `json:"unit_code"`
	UnitName string `json:"unit_name"`
}

type person struct {
	Name  string `json:"name"`
	Phone string `json:"phone"`
}

type report struct {
	ReportID    string         `json:"report_id"`
	CaseID      string         `json:"case_id"`
	Kind        string         `json:"kind"`
	Category    string         `json:"category"`
	Stage       string         `json:"stage"`
	OccurredAt  time.Time      `json:"occurred_at"`
	Location    *location      `json:"location"`
	Source      string         `json:"source"`
	SourceName  *string        `json:"source_name"`
	Supervision string         `json:"supervision"`
	Campaign    campaign       `json:"campaign"`
	Description string         `json:"description"`
	Attachments []attachment   `json:"attachments"`
	Handler     unit           `json:"handler"`
	Reporter    *person        `json:"reporter"`
	Extra       map[string]any `json:"extra"`
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func post(how, url string, body io.Reader) {
	answer := must(http.Post(url, "application/json", body))
	defer answer.Body.Close()
	text := string(must(io.ReadAll(answer.Body)))
	told := map[string]any{"how": how, "status": answer.StatusCode, "answer": text}
	if err := json.NewEncoder(os.Stdout).Encode(told); err != nil {
		panic(err)
	}
}

// streamed writes the value while it is sent, so that nobody knows its length beforehand.
func streamed(value any) io.Reader {
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(json.NewEncoder(writer).Encode(value)) }()
	return reader
}

func main() {
	url := os.Args[1]
	moment := time.Date(2020, 11, 4, 8, 0, 0, 0, time.FixedZone("", 8*3600))
	one := report{
		ReportID: "r-serialized", CaseID: "c-serialized", Kind: "repair", Category: "0211", Stage: "reported",
		OccurredAt: moment, Location: &location{Address: "杨树浦路 × 秦皇岛路"}, Description: "两根立柱\r\n已更换",
		Attachments: []attachment{{URL: "https://img.example.cn/1.jpg"}},
	}
	post("Go, announced", url+"/v1/reports", bytes.NewReader(must(json.Marshal(one))))
	post("Go, streamed", url+"/v1/reports", streamed(one))
	post("Go, array, streamed", url+"/v1/reports/batch", streamed([]report{one, one}))
	one.OccurredAt = moment.UTC()
	one.Reporter = &person{}
	post("Go, UTC", url+"/v1/reports", bytes.NewReader(must(json.Marshal(one))))
}
